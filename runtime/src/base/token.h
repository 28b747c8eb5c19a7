// The integer that stands for a piece of text.
#pragma once

#include <cstdint>

namespace ptgc {

// As the graphs' id ports carry it.
using TokenId = std::int64_t;

}  // namespace ptgc
