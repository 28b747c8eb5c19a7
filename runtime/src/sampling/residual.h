// Residual: what a target's distribution has beyond a drafter's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc {

// norm(max(0, p - q)) of a row. All storage is taken at construction.
class Residual {
 public:
  // For distributions over at most `vocab_size` tokens.
  explicit Residual(std::int64_t vocab_size);

  // Where p is to be written: [vocab_size].
  std::span<float> probabilities() { return masses_; }
  // Takes q away from p; tokens that q does not have keep their p.
  void Subtract(std::span<const float> q);
  // Takes away all of one token: q of a drafter that is certain of it.
  void Exclude(TokenId token_id);
  // Sums up what is left: 0 where q is at least p everywhere.
  double Sum();
  // After Sum: the token that `uniform` of [0, 1) falls on, in order of ids; there must be one.
  TokenId Choose(double uniform) const;

 private:
  static constexpr std::size_t kBlock = 64;

  std::vector<float> masses_;  // [vocab_size]
  std::vector<double> sums_;   // [vocab_size / kBlock], of each block.
  double total_ = 0;           // Their sum.
};

}  // namespace ptgc
