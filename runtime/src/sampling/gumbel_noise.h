// GumbelNoise: the noise that is added to every token's logit before the largest is taken.
#pragma once

#include <array>
#include <cstdint>

#include "base/token.h"
#include "sampling/random.h"

namespace ptgc {

// The token with the largest logit / temperature + g, where g is independent Gumbel noise for every
// token, is a sample from the softmax (Gumbel-max; Maddison et al., arXiv 1411.0030, section 2).
// The noise depends only on seed, position, stream, draw and token, so two models that share it
// mostly agree if their distributions are close: with a probability of at least (1 - TV) / (1 + TV)
// (Daliri, Musco, Suresh, arXiv 2408.07978).
//
// With p = 2^31 - 1 and w the words of Philox at the position, the noise of token t is
//
//   k0 = w0 mod p    m = 1 + w1 mod (p - 1)    k2 = w2 mod p    k3 = w3 mod p
//   a = (k0 + m t) mod p    b = (a^2 + k2) mod p    x = (b^2 + a + k3) mod p
//   u = (x + 1/2) / p    g = -ln(-ln u)
//
// which any engine with multiplication, addition and remainders of 64-bit integers can compute.
// Over random keys, x is uniform because of k3, and the x of two tokens are independent (up to 1 /
// p) because of k2. Adding a prevents x from being the same for a and -a.
class GumbelNoise {
 public:
  static constexpr std::uint32_t kPrime = 0x7FFFFFFF;
  static constexpr std::int64_t kBlock = 64;  // Tokens that share a bound.
  static constexpr double kMost = 22.19;      // No g is larger.

  // The noise at index `position` of a text.
  GumbelNoise(std::uint64_t seed, std::int64_t position, RandomStream stream,
              std::uint32_t draw = 0);

  // x of a token.
  std::uint32_t Number(TokenId token_id) const;
  // g of a token, to a relative error of 1e-14 or an absolute one of 1e-15.
  double At(TokenId token_id) const;
  // An upper bound of g for the kBlock tokens from kBlock * block on; within 0.3 of their largest g
  // if that is below 8.
  float BlockBound(std::int64_t block) const;

 private:
  std::uint32_t LargestHighBits(std::uint32_t start) const;

  std::uint32_t multiplier_;                                 // m
  std::uint32_t start_;                                      // k0
  std::uint32_t second_;                                     // k2
  std::uint32_t third_;                                      // k3
  alignas(16) std::array<std::uint32_t, kBlock> multiples_;  // m t mod p of the first tokens.
};

}  // namespace ptgc
