#include "table_models.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "reference_distribution.h"
#include "sampling/counted_path.h"

namespace ptgc {
namespace {

constexpr std::size_t kContexts = kVocab * kVocab;
using Table = std::array<std::vector<float>, kContexts>;

Table MakeTable(std::uint64_t seed) {
  Table table;
  for (std::size_t context = 0; context < kContexts; ++context) {
    table[context] = MadeUpLogits(kVocab, Spread::kNormal, 1000 * seed + context);
    for (float& logit : table[context]) logit *= 0.6F;
  }
  return table;
}

Table MakeNear(const Table& target) {
  Table table = target;
  const Table noise = MakeTable(3);
  for (std::size_t context = 0; context < kContexts; ++context) {
    for (std::size_t i = 0; i < kVocab; ++i) table[context][i] += 0.2F * noise[context][i];
  }
  return table;
}

const Table kTarget = MakeTable(1);
const Table kStrange = MakeTable(2);
const Table kNear = MakeNear(kTarget);

std::span<const float> After(const Table& table, std::span<const TokenId> text) {
  return table[static_cast<std::size_t>(text[text.size() - 1] * kVocab + text[text.size() - 2])];
}

// A text with the drafts down to a node.
Tokens TextAt(Tokens text, const Proposal& proposal, int node) {
  const std::ptrdiff_t root = static_cast<std::ptrdiff_t>(text.size());
  for (int at = node; at > 0; at = proposal.tree().parent(at)) {
    text.insert(text.begin() + root, proposal.token(at));
  }
  return text;
}

}  // namespace

std::span<const float> TargetLogits(std::span<const TokenId> text) { return After(kTarget, text); }
std::span<const float> StrangeLogits(std::span<const TokenId> text) {
  return After(kStrange, text);
}
std::span<const float> NearLogits(std::span<const TokenId> text) { return After(kNear, text); }

LogitsRow TableReader::Row(int node) {
  ++rows_read_;
  return {TargetLogits(TextAt(*text_, *proposal_, node)).data(), DType::kFloat32, kVocab};
}

void DraftedText::Clear() {
  proposal.Clear();
  std::fill(indices.begin(), indices.end(), DraftProbabilities::kCertain);
}

void DraftedText::Draft(Model model, const SamplingOptions& options, AcceptanceRule rule,
                        Sampler& sampler) {
  std::vector<int> nodes(static_cast<std::size_t>(shape.num_nodes()), -1);  // Of the proposal.
  nodes[0] = 0;
  for (int stands = 0; stands < shape.num_nodes(); ++stands) {
    const int node = nodes[static_cast<std::size_t>(stands)];
    if (node < 0 || shape.num_children(stands) == 0) continue;
    const CountedPath path(options.has_penalties() ? &counts : nullptr, proposal, node);
    const LogitsRow row = {model(TextAt(text, proposal, node)).data(), DType::kFloat32, kVocab};
    sampler.Read(row, options, &counts);
    const std::size_t at = static_cast<std::size_t>(stands * kVocab);
    if (NeedsProbabilities(rule)) {
      sampler.WriteProbabilities(std::span(probabilities).subspan(at, kVocab));
    }
    const int depth = shape.depth(stands);
    const GumbelNoise noise =
        DraftNoise(options, static_cast<std::int64_t>(text.size()) + depth, rule, depth);
    Tokens siblings;
    for (int child = stands + 1; child < shape.num_nodes(); ++child) {
      if (shape.parent(child) != stands) continue;
      const TokenId token = sampler.Choose(noise, siblings);
      if (token == kNoToken) break;
      siblings.push_back(token);
      const int before = proposal.size();
      const int added = proposal.Add(node, token);
      nodes[static_cast<std::size_t>(child)] = added;
      const bool is_new = proposal.size() > before && NeedsProbabilities(rule);
      if (is_new) indices[static_cast<std::size_t>(added)] = stands;
    }
  }
}

ProposedText DraftedText::Question(TableReader& reader, const SamplingOptions& options,
                                   AcceptanceRule rule) {
  return {.proposal = &proposal,
          .logits = &reader,
          .options = &options,
          .counts = &counts,
          .position = static_cast<std::int64_t>(text.size()),
          .rule = rule,
          .draft_probabilities = {probabilities, indices, kVocab}};
}

void DraftedText::Accept(Verdict verdict) {
  acceptance.Take(proposal, verdict.last, verdict.bonus);
  const auto emit = [this](TokenId token) {
    text.push_back(token);
    counts.Push(token);
  };
  for (int node : acceptance.path()) emit(proposal.token(node));
  emit(acceptance.bonus());
}

}  // namespace ptgc
