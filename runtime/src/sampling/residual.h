// Residual: the excess of a target's distribution over a drafter's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc {

// The sum of masses, in float64.
double SumOf(std::span<const float> masses);

// Computes norm(max(0, p - q)) of a row, for one q after the other. All storage is allocated at
// construction.
class Residual {
 public:
  // For distributions over at most `vocab_size` tokens.
  explicit Residual(std::int64_t vocab_size);

  // The place to write p to: [vocab_size].
  std::span<float> probabilities() { return masses_; }
  // The mass that is left of a token; 0 if there is no such token.
  float Mass(TokenId token_id) const;
  // Subtracts `factor` times q; tokens that q does not have keep their mass.
  void Subtract(std::span<const float> q, double factor = 1);
  // Removes all of one token.
  void Exclude(TokenId token_id);
  // Sums up what is left: 0 if q is at least p everywhere.
  double Sum();
  // After Sum: the token that `uniform` in [0, 1) falls on, in order of ids; the sum must not be 0.
  TokenId Choose(double uniform) const;

 private:
  static constexpr std::size_t kBlock = 64;

  std::vector<float> masses_;  // [vocab_size]
  std::vector<double> sums_;   // [vocab_size / kBlock], of each block.
  double total_ = 0;           // Their sum.
};

}  // namespace ptgc
