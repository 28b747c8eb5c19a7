// Sampler: chooses tokens from logits, exactly as SamplingOptions define.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/token.h"
#include "sampling/gumbel_noise.h"
#include "sampling/logits.h"
#include "sampling/ranking.h"
#include "sampling/sampling_options.h"
#include "sampling/token_counts.h"

namespace ptgc {

// The score by which the tokens of a row compete: logit / temperature + g, in float64.
inline double Score(float logit, double temperature, double noise) {
  return static_cast<double>(logit) / temperature + noise;
}

// Works on one row at a time. All storage is allocated at construction. Not thread-safe.
class Sampler {
 public:
  // For rows of at most `vocab_size` logits.
  explicit Sampler(std::int64_t vocab_size);

  // Takes a row through steps 1 to 6 of SamplingOptions; the methods below ask about this row, and
  // may be called only afterwards. The row's memory must not change until they are done. `counts`,
  // of the text before the token to choose, may be null if the options have no penalties. False if
  // nothing can be chosen from the row.
  bool Read(const LogitsRow& row, const SamplingOptions& options, const TokenCounts* counts);
  // The same, but greedy options ask about the distribution at temperature 1 without filters.
  bool ReadDistribution(const LogitsRow& row, const SamplingOptions& options,
                        const TokenCounts* counts);

  // The kept token with the largest Score, or the lower id of equals; at temperature 0 the one with
  // the largest logit. With `others`, the best token that is not among them (the next of several
  // drafts), at temperature 0 among all tokens; kNoToken if none is left.
  TokenId Choose(const GumbelNoise& noise, std::span<const TokenId> others = {}) const;
  // The probability of a token; 0 if the filters drop it or the row does not have it.
  float Probability(TokenId token_id);
  // All probabilities; entries beyond the row become 0.
  void WriteProbabilities(std::span<float> probabilities);
  // The entropy of the distribution, in nats.
  double Entropy();
  // The kept token that comes `rank`-th in the order of likelihood, from 1 on; the last one if
  // there are fewer.
  TokenId AtRank(std::int64_t rank);
  // Whether a token is kept, one of the `top_k` likeliest, and its log-probability is at most
  // `margin` below that of the likeliest.
  bool IsNearBest(TokenId token_id, std::int64_t top_k, double margin);

 private:
  struct Leader;

  bool ReadAt(double temperature, const LogitsRow& row, const SamplingOptions& options,
              const TokenCounts* counts);
  void KeepAll();
  void Filter(const SamplingOptions& options);
  TokenId LargestBut(std::span<const TokenId> others) const;
  void RaceBlock(const GumbelNoise& noise, std::size_t block, Leader& leader) const;
  double KeptMass() { return has_filters_ ? last_.mass : ranking_.Total(); }

  std::vector<float> values_;      // [vocab_size], for rows that cannot be used in place.
  std::span<const float> logits_;  // The row after bias and penalties.
  Ranking ranking_;                // Its order and masses.
  Place last_;                     // The last token that the filters keep.
  bool has_filters_ = false;       // Whether there are filters, so that its mass is known.
  double temperature_ = 0;         // 0: the largest logit is chosen, without noise.
};

}  // namespace ptgc
