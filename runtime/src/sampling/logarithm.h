// The natural logarithm, bit-identical on every machine.
#pragma once

#include <bit>
#include <cstdint>

namespace ptgc {

// 2 artanh(s) for |s| <= 0.172, to a relative error of 1e-15: the odd series up to s^19. Uses
// additions and multiplications, each rounded separately (compiled without contraction).
inline double TwiceArtanh(double s) {
  const double z = s * s;
  double sum = 1.0 / 19;
  for (int odd = 17; odd > 0; odd -= 2) sum = sum * z + 1.0 / odd;
  return 2 * s * sum;
}

// ln x of a normal number x > 0, to an absolute error of 1e-15 and a relative one of 2e-15.
// x = 2^n m with m from sqrt(1/2) to sqrt(2), and ln m = 2 artanh((m - 1) / (m + 1)).
inline double Log(double x) {
  constexpr std::uint64_t kSqrtHalf = 0x3FE6A09E667F3BCD;
  constexpr double kLn2 = 0x1.62e42fefa39efp-1;
  const std::uint64_t distance = std::bit_cast<std::uint64_t>(x) - kSqrtHalf;
  const std::int64_t n = static_cast<std::int64_t>(distance) >> 52;
  const double m = std::bit_cast<double>(std::bit_cast<std::uint64_t>(x) -
                                         (static_cast<std::uint64_t>(n) << 52));
  return static_cast<double>(n) * kLn2 + TwiceArtanh((m - 1) / (m + 1));
}

}  // namespace ptgc
