#include "sampling/target_choice.h"

#include <algorithm>
#include <cstddef>

#include "sampling/counted_path.h"
#include "sampling/gumbel_noise.h"
#include "sampling/random.h"

namespace ptgc {
namespace {

std::size_t Index(std::int64_t value) { return static_cast<std::size_t>(value); }

TokenId DraftAt(const ProposedText& text, int node) { return text.proposal->token(node); }

TokenCounts* CountsOf(const ProposedText& text) {
  return text.options->has_penalties() ? text.counts : nullptr;
}

}  // namespace

TargetChoice::TargetChoice(std::int64_t vocab_size, int max_drafts)
    : sampler_(vocab_size), residual_(vocab_size) {
  next_ids_.resize(Index(max_drafts) + 1);
  is_agreed_.resize(Index(max_drafts) + 1);
}

std::span<const TokenId> TargetChoice::NextIds(const ProposedText& text) {
  const std::size_t count = Index(text.proposal->size()) + 1;
  std::fill_n(next_ids_.begin(), count, kNoToken);
  if (text.rule == AcceptanceRule::kMatch || text.options->is_greedy()) {
    Match(text);
  } else {
    Speculate(text);
  }
  return std::span<const TokenId>(next_ids_).first(count);
}

// Only nodes whose ancestors were all accepted are evaluated; the answers of others do not matter.
void TargetChoice::Match(const ProposedText& text) {
  is_agreed_[0] = 1;
  next_ids_[0] = Choose(text, 0);
  for (int node = 1; node <= text.proposal->size(); ++node) {
    const std::size_t parent = Index(text.proposal->tree().parent(node));
    is_agreed_[Index(node)] = is_agreed_[parent] != 0 && next_ids_[parent] == DraftAt(text, node);
    if (is_agreed_[Index(node)] != 0) next_ids_[Index(node)] = Choose(text, node);
  }
}

void TargetChoice::Speculate(const ProposedText& text) {
  for (int node = 0; node < text.proposal->size(); ++node) {
    next_ids_[Index(node)] = Judge(text, node);
    if (next_ids_[Index(node)] != DraftAt(text, node + 1)) return;
  }
  next_ids_[Index(text.proposal->size())] = Choose(text, text.proposal->size());
}

// What plain decoding chooses after a node.
TokenId TargetChoice::Choose(const ProposedText& text, int node) {
  const CountedPath path(CountsOf(text), *text.proposal, node);
  const GumbelNoise noise(text.options->seed, text.position + text.proposal->tree().depth(node),
                          RandomStream::kChoose);
  if (!sampler_.Read(text.logits->Row(node), *text.options, text.counts)) return kNoToken;
  return sampler_.Choose(noise);
}

// The draft after a node of a chain, or the token that replaces it.
TokenId TargetChoice::Judge(const ProposedText& text, int node) {
  const CountedPath path(CountsOf(text), *text.proposal, node);
  if (!sampler_.Read(text.logits->Row(node), *text.options, text.counts)) return kNoToken;
  const TokenId draft = DraftAt(text, node + 1);
  const std::int64_t position = text.position + node;
  const bool is_certain = text.draft_probabilities.empty();
  const std::span<const float> q =
      is_certain ? std::span<const float>() : text.draft_probabilities.Of(node);
  const double p_draft = sampler_.Probability(draft);
  const double q_draft = is_certain ? 1 : q[Index(draft)];
  const double uniform = Uniform(text.options->seed, position, RandomStream::kAccept);
  if (uniform * q_draft < p_draft) return draft;

  sampler_.WriteProbabilities(residual_.probabilities());
  if (is_certain) {
    residual_.Exclude(draft);
  } else {
    residual_.Subtract(q);
  }
  // p and q are equal except for rounding, so the draft is as good as any token.
  if (!(residual_.Sum() > 0)) return draft;
  return residual_.Choose(Uniform(text.options->seed, position, RandomStream::kResidual));
}

TokenId ChooseDraft(Sampler& sampler, const LogitsRow& row, const SamplingOptions& options,
                    const TokenCounts* counts, std::int64_t position, AcceptanceRule rule,
                    std::span<float> probabilities) {
  if (!sampler.Read(row, options, counts)) return kNoToken;
  if (rule == AcceptanceRule::kMatch || options.is_greedy()) {
    return sampler.Choose(GumbelNoise(options.seed, position, RandomStream::kChoose));
  }
  sampler.WriteProbabilities(probabilities);
  return sampler.Choose(GumbelNoise(options.seed, position, RandomStream::kDraft));
}

}  // namespace ptgc
