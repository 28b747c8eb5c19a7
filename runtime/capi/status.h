// Statuses: turns exceptions of the core into what a C function returns.
#pragma once

#include <string>

#include "base/error.h"
#include "ptgc.h"

namespace ptgc::capi {

// The status for a code; both have the same name.
ptgc_status StatusOf(ErrorCode code);

// Records the current exception as this thread's last error, and returns its status.
ptgc_status RecordException() noexcept;

// Runs `body` and lets no exception out.
template <typename Body>
ptgc_status Guarded(Body body) noexcept {
  try {
    body();
    return PTGC_OK;
  } catch (...) {
    return RecordException();
  }
}

// Throws a usage error if the pointer is null; `name` is its name in the header.
void RequirePointer(const void* pointer, const char* name);

[[noreturn]] void RefuseUsage(const std::string& message, const std::string& action);

}  // namespace ptgc::capi
