#include "sampling/target_choice.h"

#include <algorithm>
#include <cstddef>

#include "base/exponential.h"
#include "sampling/counted_path.h"
#include "sampling/random.h"

namespace ptgc {
namespace {

// A chain whose joint ratio is below this is not accepted any further: the chance is nil, and its
// inverse would soon overflow.
constexpr double kLeastJoint = 1e-30;

std::size_t Index(std::int64_t value) { return static_cast<std::size_t>(value); }

TokenCounts* CountsOf(const ProposedText& text) {
  return text.options->has_penalties() ? text.counts : nullptr;
}

// The last node that may be accepted.
int LastOf(const ProposedText& text) { return text.proposal->num_acceptable(); }

// Index in the text of the token after a node.
std::int64_t PositionAfter(const ProposedText& text, int node) {
  return text.position + text.proposal->tree().depth(node);
}

// The number that decides about a draft.
double AcceptNumber(const ProposedText& text, int node) {
  const TreeSpec& tree = text.proposal->tree();
  const int parent = tree.parent(node);
  return Uniform(text.options->seed, PositionAfter(text, parent), RandomStream::kAccept,
                 DrawOf(text.rule, tree.depth(parent), tree.rank(node)));
}

// The probability with which a draft was drawn, of what remained of its distribution.
double DrawnWith(std::span<const float> q, TokenId draft, double remaining) {
  return q.empty() ? 1 : q[Index(draft)] / remaining;
}

}  // namespace

TargetChoice::TargetChoice(std::int64_t vocab_size, int max_drafts)
    : sampler_(vocab_size),
      residual_(vocab_size),
      remaining_(Index(vocab_size)),
      likelihood_(Index(max_drafts) + 1) {}

Verdict TargetChoice::Judge(const ProposedText& text) {
  if (IsLossy(text.rule)) return Relax(text);
  if (text.rule == AcceptanceRule::kMatch || text.options->is_greedy()) return Match(text);
  const bool is_block = text.rule == AcceptanceRule::kBlock && text.proposal->tree().is_chain();
  return is_block ? JudgeBlock(text) : Speculate(text);
}

Verdict TargetChoice::Match(const ProposedText& text) {
  Verdict verdict;
  while (true) {
    verdict.bonus = Choose(text, verdict.last);
    const int child = text.proposal->Find(verdict.last, verdict.bonus);
    if (child == 0 || child > LastOf(text)) return verdict;
    verdict.last = child;
  }
}

// What plain decoding chooses after a node.
TokenId TargetChoice::Choose(const ProposedText& text, int node) {
  const CountedPath path(CountsOf(text), *text.proposal, node);
  if (!sampler_.Read(text.logits->Row(node), *text.options, text.counts)) return kNoToken;
  return ChooseKept(text, node);
}

// The same, of a row that was read.
TokenId TargetChoice::ChooseKept(const ProposedText& text, int node) {
  return sampler_.Choose({text.options->seed, PositionAfter(text, node), RandomStream::kChoose});
}

Verdict TargetChoice::Speculate(const ProposedText& text) {
  int node = 0;
  while (true) {
    const Verdict verdict = TryChildren(text, node);
    if (verdict.last == node) return verdict;
    node = verdict.last;
  }
}

// The first accepted child of a node; or the node itself, with the token that follows instead.
Verdict TargetChoice::TryChildren(const ProposedText& text, int node) {
  const Proposal& proposal = *text.proposal;
  const CountedPath path(CountsOf(text), proposal, node);
  if (!sampler_.Read(text.logits->Row(node), *text.options, text.counts)) return {node, kNoToken};
  double left = 1;  // Mass of p, which is not normalised again.
  bool is_first = true;
  for (int child = node + 1; child <= LastOf(text); ++child) {
    if (proposal.tree().parent(child) != node) continue;
    const TokenId draft = proposal.token(child);
    std::span<const float> q = text.draft_probabilities.Of(child);
    // A drafter may run out of tokens that it gives any probability; what it drafts then is
    // certain.
    if (!q.empty() && !(q[Index(draft)] > 0)) q = {};
    const double remaining = is_first ? 1 : Remaining(text, child, q);
    const double p = is_first ? sampler_.Probability(draft) : residual_.Mass(draft);
    if (AcceptNumber(text, child) * DrawnWith(q, draft, remaining) * left < p) {
      return {child, kNoToken};
    }
    if (is_first) sampler_.WriteProbabilities(residual_.probabilities());
    const std::span<const float> tried = is_first ? q : std::span<const float>(remaining_);
    if (!q.empty()) residual_.Subtract(tried.first(q.size()), left / remaining);
    residual_.Exclude(draft);
    left = residual_.Sum();
    // p and q are equal except for rounding, so the draft is as good as any token.
    if (!(left > 0)) return {child, kNoToken};
    is_first = false;
  }
  return {node, is_first ? ChooseKept(text, node) : ChooseResidual(text, node)};
}

// Writes what remains of a child's q without its elder siblings; returns the sum. It is summed up
// anew, because 1 minus the siblings' probabilities would be inexact where little remains.
double TargetChoice::Remaining(const ProposedText& text, int child, std::span<const float> q) {
  if (q.empty()) return 1;
  const Proposal& proposal = *text.proposal;
  const std::span<float> remaining = std::span(remaining_).first(q.size());
  std::copy(q.begin(), q.end(), remaining.begin());
  const int parent = proposal.tree().parent(child);
  for (int elder = parent + 1; elder < child; ++elder) {
    if (proposal.tree().parent(elder) != parent) continue;
    const std::size_t token = Index(proposal.token(elder));
    if (token < remaining.size()) remaining[token] = 0;
  }
  return SumOf(remaining);
}

// A token of what is left of p after a node.
TokenId TargetChoice::ChooseResidual(const ProposedText& text, int node) {
  return residual_.Choose(
      Uniform(text.options->seed, PositionAfter(text, node), RandomStream::kResidual));
}

// In the paper's symbols, `joint` is p_i, `excess` the numerator of h_i, and AcceptNumber eta_i.
// The last i with eta_i <= h_i wins, even if an earlier one fails.
Verdict TargetChoice::JudgeBlock(const ProposedText& text) {
  const Proposal& proposal = *text.proposal;
  const int size = LastOf(text);
  if (size == 0) return {0, Choose(text, 0)};
  int last = 0;
  double joint = 1, joint_at_last = 1;
  for (int node = 0; node < size && joint >= kLeastJoint; ++node) {
    const CountedPath path(CountsOf(text), proposal, node);
    if (!sampler_.Read(text.logits->Row(node), *text.options, text.counts)) return {};
    if (node > 0) {
      const double excess = WriteExcess(text, node, joint);
      if (AcceptNumber(text, node) * (excess + 1 - joint) < excess) {
        last = node;
        joint_at_last = joint;
      }
    }
    const TokenId draft = proposal.token(node + 1);
    const double q = DrawnWith(text.draft_probabilities.Of(node + 1), draft, 1);
    joint = std::min(joint * sampler_.Probability(draft) / q, 1.0);
  }
  if (joint >= kLeastJoint && AcceptNumber(text, size) < joint) return {size, Choose(text, size)};
  const CountedPath path(CountsOf(text), proposal, last);
  if (!sampler_.Read(text.logits->Row(last), *text.options, text.counts)) return {};
  const bool differs = WriteExcess(text, last, joint_at_last) > 0;
  return {last, differs ? ChooseResidual(text, last) : ChooseKept(text, last)};
}

// Writes max(0, joint * p - q) / joint after a node of a chain whose row was read; returns its sum
// times `joint`.
double TargetChoice::WriteExcess(const ProposedText& text, int node, double joint) {
  sampler_.WriteProbabilities(residual_.probabilities());
  const std::span<const float> q = text.draft_probabilities.Of(node + 1);
  if (q.empty()) {
    residual_.Exclude(text.proposal->token(node + 1));
  } else {
    residual_.Subtract(q, 1 / joint);
  }
  return joint * residual_.Sum();
}

Verdict TargetChoice::Relax(const ProposedText& text) {
  const TreeSpec& tree = text.proposal->tree();
  std::fill_n(likelihood_.begin(), tree.num_nodes(), -1.0);
  likelihood_[0] = 1;
  int best = 0;
  for (int node = 0; node < tree.num_nodes(); ++node) {
    if (likelihood_[Index(node)] < 0) continue;
    const int longer = tree.depth(node) - tree.depth(best);
    if (longer > 0 || (longer == 0 && likelihood_[Index(node)] > likelihood_[Index(best)])) {
      best = node;
    }
    if (tree.num_children(node) > 0) RelaxChildren(text, node);
  }
  return {best, Choose(text, best)};
}

// Accepts those children of an accepted node that are likely enough.
void TargetChoice::RelaxChildren(const ProposedText& text, int node) {
  const Proposal& proposal = *text.proposal;
  const CountedPath path(CountsOf(text), proposal, node);
  if (!sampler_.ReadDistribution(text.logits->Row(node), *text.options, text.counts)) return;
  for (int child = node + 1; child <= LastOf(text); ++child) {
    if (proposal.tree().parent(child) != node || !IsLikely(text, proposal.token(child))) continue;
    const double p = sampler_.Probability(proposal.token(child));
    likelihood_[Index(child)] = likelihood_[Index(node)] * p;
  }
}

bool TargetChoice::IsLikely(const ProposedText& text, TokenId draft) {
  if (text.rule == AcceptanceRule::kRelaxed) {
    return sampler_.IsNearBest(draft, text.relaxed.top_k, text.relaxed.margin);
  }
  const double p = sampler_.Probability(draft);
  const auto [epsilon, delta] = text.typical;
  return p > epsilon || p > delta * Exp(static_cast<float>(-sampler_.Entropy()));
}

GumbelNoise DraftNoise(const SamplingOptions& options, std::int64_t position, AcceptanceRule rule,
                       int depth) {
  if (depth < 0 || !NeedsProbabilities(rule))
    return {options.seed, position, RandomStream::kChoose};
  return {options.seed, position, RandomStream::kDraft, DrawOf(rule, depth)};
}

}  // namespace ptgc
