// Sampler: chooses tokens from logits, exactly as SamplingOptions say.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "logits.h"
#include "ranking.h"
#include "sampling_options.h"
#include "token.h"
#include "token_counts.h"

namespace ptgc {

// Given where a row has no choice: it holds NaN or +infinity, or nothing above -infinity.
constexpr TokenId kNoToken = -1;

// Works on one row at a time. All storage is taken at construction; not for two threads at once.
class Sampler {
 public:
  // For rows of at most `vocab_size` logits.
  explicit Sampler(std::int64_t vocab_size);

  // Takes a row through steps 1 to 6 of SamplingOptions; what follows asks about it, and nothing
  // else may be asked before. The row's memory must stay as it is until then. `counts`, of the
  // text before the token to choose, may be null where the options have no penalties. False where
  // the row has no choice.
  bool Read(const LogitsRow& row, const SamplingOptions& options, const TokenCounts* counts);

  // The token that `uniform` of [0, 1) falls on when the kept tokens stand in descending order of
  // probability, lower ids of equals first, each as wide as its probability.
  TokenId Choose(double uniform);
  // The probability of a token; 0 where the filters drop it or the row does not have it.
  float Probability(TokenId token_id) const;
  // All probabilities; entries beyond the row become 0.
  void WriteProbabilities(std::span<float> probabilities) const;

 private:
  void Filter(const SamplingOptions& options);

  std::vector<float> values_;      // [vocab_size], for rows that cannot be used as they lie.
  std::span<const float> logits_;  // The row after bias and penalties.
  Ranking ranking_;                // Its order and masses.
  Place last_;                     // The last token that the filters keep.
  bool greedy_ = false;            // Whether the choice is the largest whatever the number.
};

}  // namespace ptgc
