// The exponential function in a form that compilers turn into vector instructions.
#pragma once

#include <bit>
#include <cstdint>

namespace ptgc {

// Below this, Exp returns 0.
constexpr float kLowestExponent = -87.0F;

// e^x for x <= 0, to a relative error of 1e-7; 0 below kLowestExponent; NaN for NaN. Uses only
// additions, multiplications and integer operations, each rounded separately (compiled without
// contraction), so that every machine gives the same bits.
//
// x = n ln 2 + r with |r| <= ln 2 / 2, and e^r = 1 + r + r^2 P(r), where P is the polynomial with
// the least relative error (3e-9).
inline float Exp(float x) {
  constexpr float kRound = 0x1.8p23F;  // Adding it leaves the nearest integer in the low bits.
  constexpr float kLog2e = 0x1.715476p0F;
  constexpr float kLn2High = 0x1.62e4p-1F;  // Has few bits, so that n times it is exact.
  constexpr float kLn2Low = 0x1.7f7d1cp-20F;
  const float rounded = x * kLog2e + kRound;
  const float n = rounded - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 0x1.6a2350p-10F;
  p = p * r + 0x1.123a6cp-7F;
  p = p * r + 0x1.5558f4p-5F;
  p = p * r + 0x1.555490p-3F;
  p = p * r + 0x1.fffffcp-2F;
  const float fraction = 1.0F + (r + r * r * p);
  const std::uint32_t bits =
      std::bit_cast<std::uint32_t>(fraction) + (std::bit_cast<std::uint32_t>(rounded) << 23);
  return x < kLowestExponent ? 0.0F : std::bit_cast<float>(bits);
}

}  // namespace ptgc
