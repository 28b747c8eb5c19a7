// The error that every part of the runtime raises.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace ptgc {

// Codes of ptgc.errors; kInternal is our own bug and has no action.
enum class ErrorCode {
  kUsage,
  kBundle,
  kBackend,
  kCapacity,
  kBusy,
  kStorage,
  kEngineStale,
  kInternal,
};

// The word for a code, the same in C++, Python and on the command line.
constexpr std::string_view Name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
      return "usage";
    case ErrorCode::kBundle:
      return "bundle";
    case ErrorCode::kBackend:
      return "backend";
    case ErrorCode::kCapacity:
      return "capacity";
    case ErrorCode::kBusy:
      return "busy";
    case ErrorCode::kStorage:
      return "storage";
    case ErrorCode::kEngineStale:
      return "engine_stale";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "internal";
}

// A failure that the caller must know about.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, std::string action = "")
      : std::runtime_error(message), code_(code), action_(std::move(action)) {}

  ErrorCode code() const { return code_; }
  std::string message() const { return what(); }
  const std::string& action() const { return action_; }

 private:
  ErrorCode code_;      // The kind of failure.
  std::string action_;  // What to do about it; may be empty.
};

}  // namespace ptgc
