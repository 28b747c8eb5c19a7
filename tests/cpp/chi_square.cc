#include "chi_square.h"

#include <cmath>
#include <cstddef>

namespace ptgc {
namespace {

// The probability that a chi-square variable of `degrees` exceeds x: 1 - P(a, z) with a = degrees /
// 2, z = x / 2 and the series P(a, z) = z^a e^-z sum z^n / Gamma(a + n + 1).
double UpperTail(int degrees, double x) {
  const double a = degrees / 2.0;
  const double z = x / 2;
  if (z > a + 60 + 10 * std::sqrt(a)) return 0;
  double term = std::exp(a * std::log(z) - z - std::lgamma(a + 1));
  double sum = 0;
  for (double n = 1; term > 1e-17 * sum && n < 10000; ++n) {
    sum += term;
    term *= z / (a + n);
  }
  return x <= 0 ? 1 : std::fmax(0, 1 - sum);
}

}  // namespace

double ChiSquareProbability(std::span<const long> counts, std::span<const double> probabilities) {
  long total = 0;
  for (long count : counts) total += count;
  double distance = 0;
  double rare_expected = 0;
  long rare = 0;
  int cells = 0;
  const auto add = [&](double expected, long counted) {
    distance += (static_cast<double>(counted) - expected) *
                (static_cast<double>(counted) - expected) / expected;
    ++cells;
  };
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = probabilities[i] * static_cast<double>(total);
    if (expected == 0 && counts[i] > 0) return 0;
    if (expected >= 5) {
      add(expected, counts[i]);
    } else {
      rare_expected += expected;
      rare += counts[i];
    }
  }
  if (rare_expected > 0.5) add(rare_expected, rare);
  return cells < 2 ? 1 : UpperTail(cells - 1, distance);
}

}  // namespace ptgc
