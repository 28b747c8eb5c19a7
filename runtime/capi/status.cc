#include "status.h"

#include <array>
#include <exception>
#include <new>
#include <string_view>

namespace ptgc::capi {
namespace {

// Names by value of ptgc_status.
constexpr std::array<const char*, 12> kNames = {"ok",     "usage",   "checkpoint", "export",
                                                "bundle", "build",   "backend",    "capacity",
                                                "busy",   "storage", "internal",   "engine_stale"};
static_assert(kNames.size() == PTGC_ERROR_ENGINE_STALE + 1);

// The last error of a thread.
struct LastError {
  std::string message;  // What failed.
  std::string action;   // What to do about it.
};
thread_local LastError last_error;

ptgc_status Record(ptgc_status status, const char* message, const char* action) noexcept {
  try {
    last_error.message = message;
    last_error.action = action;
  } catch (...) {  // no memory for the text: only the status remains
    last_error.message.clear();
    last_error.action.clear();
  }
  return status;
}

}  // namespace

ptgc_status StatusOf(ErrorCode code) {
  for (std::size_t status = 0; status < kNames.size(); ++status) {
    if (kNames[status] == Name(code)) return static_cast<ptgc_status>(status);
  }
  return PTGC_ERROR_INTERNAL;
}

ptgc_status RecordException() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return Record(StatusOf(error.code()), error.what(), error.action().c_str());
  } catch (const std::bad_alloc&) {
    return Record(PTGC_ERROR_INTERNAL, "Memory is exhausted.",
                  "Free some, or use a build of a shorter length or fewer rows.");
  } catch (const std::exception& error) {
    return Record(PTGC_ERROR_INTERNAL, error.what(), "");
  } catch (...) {
    return Record(PTGC_ERROR_INTERNAL, "Something was thrown that is no exception.", "");
  }
}

void RequirePointer(const void* pointer, const char* name) {
  if (pointer != nullptr) return;
  RefuseUsage(std::string(name) + " is NULL.", "Give a pointer.");
}

void RefuseUsage(const std::string& message, const std::string& action) {
  throw Error(ErrorCode::kUsage, message, action);
}

}  // namespace ptgc::capi

extern "C" {

const char* ptgc_status_name(ptgc_status status) {
  const bool known = status >= 0 && static_cast<std::size_t>(status) < ptgc::capi::kNames.size();
  return known ? ptgc::capi::kNames[static_cast<std::size_t>(status)] : "unknown";
}

const char* ptgc_last_error_message(void) { return ptgc::capi::last_error.message.c_str(); }

const char* ptgc_last_error_action(void) { return ptgc::capi::last_error.action.c_str(); }

const char* ptgc_version(void) { return PTGC_VERSION; }

int32_t ptgc_api_version(void) { return PTGC_API_VERSION; }

}  // extern "C"
