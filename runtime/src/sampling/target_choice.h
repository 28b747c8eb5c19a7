// TargetChoice: the target's verdict on a proposal.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/names.h"
#include "base/token.h"
#include "sampling/acceptance_rule.h"
#include "sampling/draft_probabilities.h"
#include "sampling/gumbel_noise.h"
#include "sampling/logits.h"
#include "sampling/proposal.h"
#include "sampling/residual.h"
#include "sampling/sampler.h"
#include "sampling/sampling_options.h"
#include "sampling/token_counts.h"

namespace ptgc {

// One row's proposal, and everything that the verdict depends on.
struct ProposedText {
  const Proposal* proposal = nullptr;        // May be empty.
  LogitsReader* logits = nullptr;            // The target's logits after every node.
  const SamplingOptions* options = nullptr;  // How tokens are chosen.
  TokenCounts* counts = nullptr;             // Of the text up to the root, and so again afterwards;
                                             // may be null where the options have no penalties.
  std::int64_t position = 0;                 // Index in the text of the token after the root.
  AcceptanceRule rule = AcceptanceRule::kMatch;  // How drafts are judged.
  TypicalAcceptance typical = {};                // Of rule `typical`.
  RelaxedAcceptance relaxed = {};                // Of rule `relaxed`.
  DraftProbabilities draft_probabilities = {};   // What drafts were drawn from; only read if the
                                                 // rule needs them.
};

// What is accepted of a proposal, and what follows it.
struct Verdict {
  int last = 0;              // The last accepted node, whose ancestors are accepted too.
  TokenId bonus = kNoToken;  // The token after it; kNoToken if nothing can be chosen from the
                             // logits there (NaN).
};

// With p the target's distribution after a node, and q what its children were drawn from:
//
//   match        Accepts the child that is the choice of plain decoding.
//   speculative  Tries the children d1, d2, ... in order: accepts d with probability
//                min(1, p(d) / q(d)), else continues with norm(max(0, p - q)) as p, and with q
//                without d, renormalised. After the last, the bonus is a token of p (SpecInfer:
//                Miao et al., arXiv 2305.09781, section 4.3; without replacement: Jeon et al.,
//                arXiv 2402.14160, section 3.1). A chain is the case of one child (Leviathan et
//                al., arXiv 2211.17192, section 2.3).
//   block        Judges a chain jointly (Sun et al., arXiv 2403.10444, algorithm 2), and the
//                children of a tree as `speculative` does.
//   typical      Accepts every draft that is likely enough (see TypicalAcceptance); the longest
//                accepted path is kept, of equally long ones the likeliest.
//   relaxed      The same with RelaxedAcceptance.
//
// The first three keep the distribution of plain decoding. At temperature 0, `speculative` and
// `block` are `match`, and the other two judge by the distribution at temperature 1. Where no draft
// was accepted instead, the bonus is what plain decoding chooses.
class TargetChoice {
 public:
  // `max_drafts` is the capacity of the proposals.
  TargetChoice(std::int64_t vocab_size, int max_drafts);

  // Judges a proposal. Only rows that the verdict depends on are read.
  Verdict Judge(const ProposedText& text);

 private:
  Verdict Match(const ProposedText& text);
  Verdict Speculate(const ProposedText& text);
  Verdict JudgeBlock(const ProposedText& text);
  Verdict Relax(const ProposedText& text);
  TokenId Choose(const ProposedText& text, int node);
  TokenId ChooseKept(const ProposedText& text, int node);
  TokenId ChooseResidual(const ProposedText& text, int node);
  Verdict TryChildren(const ProposedText& text, int node);
  double Remaining(const ProposedText& text, int child, std::span<const float> q);
  double WriteExcess(const ProposedText& text, int node, double joint);
  void RelaxChildren(const ProposedText& text, int node);
  bool IsLikely(const ProposedText& text, TokenId draft);

  Sampler sampler_;                 // Reads the target's rows.
  Residual residual_;               // Replaces rejected drafts.
  std::vector<float> remaining_;    // [vocab_size], q without rejected siblings.
  std::vector<double> likelihood_;  // [1 + max_drafts], of the way to a node; -1 if it is rejected.
};

// The noise with which a drafter chooses the token at index `position` of the text, `depth` nodes
// below the root. Where the rule needs no probabilities it is the noise that the target will use,
// so that similar distributions mostly give equal tokens. With a negative depth, the draft is a
// guess of the target's own choice, for which that is so under every rule.
GumbelNoise DraftNoise(const SamplingOptions& options, std::int64_t position, AcceptanceRule rule,
                       int depth);

}  // namespace ptgc
