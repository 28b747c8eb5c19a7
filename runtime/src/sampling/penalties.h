// Bias and penalties: change logits before anything is chosen from them.
#pragma once

#include <span>

#include "base/token.h"
#include "sampling/sampling_options.h"
#include "sampling/token_counts.h"

namespace ptgc {

// Adds the bias and applies the penalties (steps 1 and 2 of SamplingOptions) to a whole row,
// [vocab_size]. `counts` may be null if the options have no penalties.
void AdjustLogits(const SamplingOptions& options, const TokenCounts* counts,
                  std::span<float> logits);

// The logit of one token after the penalties.
float Penalized(float logit, TokenId token_id, const SamplingOptions& options,
                const TokenCounts& counts);

}  // namespace ptgc
