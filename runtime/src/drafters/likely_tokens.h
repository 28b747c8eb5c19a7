// LikelyTokens: the likeliest next tokens of a text, by a drafter's logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/names.h"
#include "drafters/drafter.h"
#include "sampling/sampler.h"

namespace ptgc {

// A token, and the logarithm of the probability that the target takes it.
struct LikelyToken {
  TokenId token = kNoToken;
  double log_probability = 0;  // At most 0.
};

// The probability is the drafter's own, after the filters of the request. Where the target's noise
// is known (a sampled text, judged by `match`), the tokens that it would choose from the drafter's
// logits come first, weighed by logit and noise together: Gumbel noise in the difference between
// drafter and target gives the softmax of these sums.
class LikelyTokens {
 public:
  // Finds at most `count` tokens; ids from `num_ids` on are never drafted.
  LikelyTokens(AcceptanceRule rule, int count, std::int64_t num_ids);

  // The likeliest tokens after a node of `path`, which is `depth` tokens below the text's end,
  // likeliest first. Valid until the next call. Throws if the logits are not numbers.
  std::span<const LikelyToken> Read(const DraftRow& row, const Proposal& path, int node, int depth,
                                    LogitsRow logits);

 private:
  void Rank();
  void Race(const GumbelNoise& noise);

  AcceptanceRule rule_;              // How the target will judge the drafts.
  int count_;                        // Tokens wanted.
  std::int64_t num_ids_;             // Ids that can be drafted.
  Sampler sampler_;                  // Reads the logits.
  std::vector<LikelyToken> tokens_;  // The result.
  std::vector<TokenId> chosen_;      // Its ids.
};

}  // namespace ptgc
