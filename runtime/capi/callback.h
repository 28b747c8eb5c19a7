// Callbacks: the caller's function, and what may not be called from within it.
#pragma once

#include <cstddef>
#include <span>

#include "base/token.h"
#include "handles.h"
#include "ptgc.h"

namespace ptgc::capi {

// A caller's function and its argument.
struct Callback {
  ptgc_on_chunk function = nullptr;       // May be NULL: nobody listens.
  void* user_data = nullptr;              // Its first argument.
  const GeneratorState* whose = nullptr;  // Who calls back.

  // Hands on new tokens of request `index`, which follow `position` others; false ends the text.
  bool operator()(std::size_t index, std::size_t position, std::span<const TokenId> tokens) const;
};

// Throws a usage error where this thread is within a callback of the generator: a row or a lock
// that the call needs may be held further out.
void RefuseWithinCallback(const GeneratorState& generator);

}  // namespace ptgc::capi
