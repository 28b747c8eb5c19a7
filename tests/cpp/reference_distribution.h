// What SamplingOptions mean, written out in float64 by sorting.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/token.h"
#include "sampling/sampling_options.h"

namespace ptgc {

// The text before the token to choose.
struct Text {
  std::vector<TokenId> prompt;     // What was given.
  std::vector<TokenId> generated;  // What was written.
};

// The probability of each token, [logits]; one-hot at temperature 0.
std::vector<double> ReferenceDistribution(std::span<const float> logits,
                                          const SamplingOptions& options, const Text& text = {});

// How rows of made-up logits are spread.
enum class Spread { kNormal, kFlat, kPeaked, kTied, kMasked };

// `size` logits; equal seeds give equal rows.
std::vector<float> MadeUpLogits(std::int64_t size, Spread spread, std::uint64_t seed);

}  // namespace ptgc
