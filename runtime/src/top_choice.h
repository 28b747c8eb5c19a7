// The choice of a token from a row's largest logits alone, where they suffice.
#pragma once

#include <optional>

#include "logits.h"
#include "sampling_options.h"
#include "token.h"
#include "token_counts.h"

namespace ptgc {

// The token that Sampler chooses from the whole row with the same number, where the largest logits
// settle it whatever the others are within what is known of them; otherwise nothing, and the row
// must be read. They never suffice where a bias or a penalty may raise a logit.
std::optional<TokenId> ChooseFromTop(const TopLogits& top, const SamplingOptions& options,
                                     const TokenCounts* counts, double uniform);

}  // namespace ptgc
