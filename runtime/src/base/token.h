// The integer that stands for a piece of text.
#pragma once

#include <cstdint>

namespace ptgc {

// The type of the graphs' id ports.
using TokenId = std::int64_t;

// Returned if there is no choice, for instance for a row of logits that contains NaN or +infinity,
// or nothing above -infinity.
constexpr TokenId kNoToken = -1;

}  // namespace ptgc
