// The integer that stands for a piece of text.
#pragma once

#include <cstdint>

namespace ptgc {

// As the graphs' id ports carry it.
using TokenId = std::int64_t;

// Given where there is no choice, for instance of a row of logits that holds NaN or +infinity, or
// nothing above -infinity.
constexpr TokenId kNoToken = -1;

}  // namespace ptgc
