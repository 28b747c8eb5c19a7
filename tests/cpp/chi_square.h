// Whether counts are those of a distribution.
#pragma once

#include <span>

namespace ptgc {

// Pearson's test: the probability that counts of this distribution are at least as far from what
// is expected as these. Entries expected fewer than five times are put together; 0 where something
// impossible was counted.
double ChiSquareProbability(std::span<const long> counts, std::span<const double> probabilities);

}  // namespace ptgc
