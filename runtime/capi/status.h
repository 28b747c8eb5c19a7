// Statuses: how an exception of the core becomes what a C function returns.
#pragma once

#include <string>

#include "base/error.h"
#include "ptgc.h"

namespace ptgc::capi {

// The status of a code, the same word in both.
ptgc_status StatusOf(ErrorCode code);

// Keeps the exception that is being handled as this thread's last error; gives its status.
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

// Throws a usage error unless the pointer is one; `name` is what the header calls it.
void RequirePointer(const void* pointer, const char* name);

[[noreturn]] void RefuseUsage(const std::string& message, const std::string& action);

}  // namespace ptgc::capi
