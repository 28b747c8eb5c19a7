// TargetChoice: the target's answers to a proposal.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/names.h"
#include "base/token.h"
#include "sampling/draft_probabilities.h"
#include "sampling/logits.h"
#include "sampling/proposal.h"
#include "sampling/residual.h"
#include "sampling/sampler.h"
#include "sampling/sampling_options.h"
#include "sampling/token_counts.h"

namespace ptgc {

// One row's proposal, and everything that the answers depend on.
struct ProposedText {
  const Proposal* proposal = nullptr;        // May be empty; a chain under rule `speculative`.
  LogitsReader* logits = nullptr;            // The target's logits after every node.
  const SamplingOptions* options = nullptr;  // How tokens are chosen.
  TokenCounts* counts = nullptr;             // Of the text up to the root, and so again afterwards;
                                             // may be null where the options have no penalties.
  std::int64_t position = 0;                 // Index in the text of the token after the root.
  AcceptanceRule rule = AcceptanceRule::kMatch;  // How drafts are judged.
  DraftProbabilities draft_probabilities;        // What drafts were drawn from; only rule
                                                 // `speculative` reads it.
};

// Both rules answer with one token per node. Acceptance keeps the path from the root whose tokens
// equal the answers, and takes the answer after it as the bonus.
//
//   match        The answer at a node is what plain decoding chooses there. Trees and chains.
//   speculative  With p the target's distribution, q the drafter's and d the draft: the answer is d
//                with probability min(1, p(d) / q(d)), else a token of norm(max(0, p - q)); after
//                the last draft a token of p (Leviathan et al., arXiv 2211.17192, section 2.3).
//                At temperature 0 this is `match`.
//
// Sampled drafts after a rejected one have no influence on the text. The next round may therefore
// use the same random numbers at their positions again without changing the distribution.
class TargetChoice {
 public:
  // `max_drafts` is the capacity of the proposals.
  TargetChoice(std::int64_t vocab_size, int max_drafts);

  // The answer at every node that an accepted path reaches, kNoToken at the others: [1 + proposal
  // size]. If a bonus is kNoToken, nothing can be chosen from the logits there (NaN).
  std::span<const TokenId> NextIds(const ProposedText& text);

 private:
  void Match(const ProposedText& text);
  void Speculate(const ProposedText& text);
  TokenId Choose(const ProposedText& text, int node);
  TokenId Judge(const ProposedText& text, int node);

  Sampler sampler_;                       // Reads the target's rows.
  Residual residual_;                     // Replaces a rejected draft.
  std::vector<TokenId> next_ids_;         // [1 + max_drafts]
  std::vector<unsigned char> is_agreed_;  // [1 + max_drafts], the way to a node is accepted.
};

// A drafter's token at index `position` of the text, chosen from its own logits by the text's
// options. Under rule `match` it is chosen with the noise that the target will use, so that similar
// distributions mostly give equal tokens. Under `speculative` it has its own noise, and
// `probabilities` ([row size]) receives the distribution that it was sampled from. kNoToken if
// nothing can be chosen from the row. Any token of the row may be chosen: callers that draft for a
// smaller vocabulary pass a row of that size.
TokenId ChooseDraft(Sampler& sampler, const LogitsRow& row, const SamplingOptions& options,
                    const TokenCounts* counts, std::int64_t position, AcceptanceRule rule,
                    std::span<float> probabilities);

}  // namespace ptgc
