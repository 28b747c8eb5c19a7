// The choice of a token from a row's largest logits alone, where they suffice.
#pragma once

#include <optional>

#include "base/token.h"
#include "sampling/gumbel_noise.h"
#include "sampling/logits.h"
#include "sampling/sampling_options.h"
#include "sampling/token_counts.h"

namespace ptgc {

// The token that Sampler chooses from the whole row with the same noise, where the largest logits
// settle it whatever the others are within what is known of them: the filters keep none of the
// others, or none can come before the winner even with the largest noise there is. Otherwise
// nothing, and the row must be read; always so where a bias or a penalty may raise a logit.
std::optional<TokenId> ChooseFromTop(const TopLogits& top, const SamplingOptions& options,
                                     const TokenCounts* counts, const GumbelNoise& noise);

}  // namespace ptgc
