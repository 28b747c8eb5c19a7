// Callbacks: the caller's function, and a check of what is called from within it.
#pragma once

#include <cstddef>
#include <span>

#include "base/token.h"
#include "handles.h"
#include "ptgc.h"

namespace ptgc::capi {

// A caller's function and its argument.
struct Callback {
  ptgc_on_chunk function = nullptr;       // May be NULL: no callback.
  void* user_data = nullptr;              // Its first argument.
  const GeneratorState* whose = nullptr;  // The generator that calls back.

  // Passes on new tokens of request `index`, which follow `position` others; false ends the text.
  bool operator()(std::size_t index, std::size_t position, std::span<const TokenId> tokens) const;
};

// Throws a usage error if this thread is within a callback of the generator, because an outer call
// may hold a row or a lock that the call needs.
void RefuseWithinCallback(const GeneratorState& generator);

}  // namespace ptgc::capi
