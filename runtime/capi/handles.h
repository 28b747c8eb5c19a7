// Handles: the generators, sessions and results that a C caller holds.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bundle/bundle.h"
#include "loops/request.h"
#include "ptgc.h"
#include "serving/generator.h"
#include "serving/session_handle.h"
#include "status.h"

namespace ptgc::capi {

// A running call of ptgc_generator_generate.
struct CallState {
  const void* user_data = nullptr;     // The caller's argument.
  std::atomic<bool> cancelled{false};  // Whether its texts must end.
};

// Behind a ptgc_generator.
struct GeneratorState {
  explicit GeneratorState(std::unique_ptr<Generator> opened) : generator(std::move(opened)) {}

  std::unique_ptr<Generator> generator;  // The loaded generator.
  std::mutex calls_mutex;                // Guards the member below.
  std::list<CallState> calls;            // Running calls.
};

// Behind a ptgc_session.
struct SessionState {
  SessionState(std::shared_ptr<GeneratorState> whose, std::unique_ptr<SessionHandle> opened)
      : generator(std::move(whose)), session(std::move(opened)) {}

  std::shared_ptr<GeneratorState> generator;  // Lives as long as its sessions.
  std::mutex mutex;                           // Held by every call except cancel and close.
  std::unique_ptr<SessionHandle> session;     // The row.
  std::atomic<bool> closed{false};            // Whether a running call must end.
};

// Behind a ptgc_result.
struct ResultState {
  ResultState(Result written, std::uint64_t drawn_with)
      : result(std::move(written)), seed(drawn_with) {
    for (const DraftCount& one : result.statistics.draft_counts) {
      draft_counts.push_back({one.depth, one.rank, one.tried, one.accepted});
    }
  }

  Result result;                               // The text.
  std::uint64_t seed;                          // The seed; 0 if nothing was sampled.
  std::vector<ptgc_draft_count> draft_counts;  // How drafts fared.
};

// A number that no handle of this process has had.
std::uintptr_t NextHandleNumber();

// The live handles of one kind. A handle is a number in the form of a pointer, never an address, so
// that a closed handle is always recognised.
template <typename Handle, typename State>
class HandleTable {
 public:
  // `kind` completes the sentence "This ... is closed".
  explicit HandleTable(const char* kind) : kind_(kind) {}

  Handle* Add(std::shared_ptr<State> state) {
    const std::uintptr_t number = NextHandleNumber();
    const std::unique_lock lock(mutex_);
    states_.emplace(number, std::move(state));
    return reinterpret_cast<Handle*>(number);
  }

  // Makes handles for all of `states`, or for none if memory is exhausted.
  void AddAll(const std::vector<std::shared_ptr<State>>& states, Handle** handles) {
    std::size_t added = 0;
    try {
      for (; added < states.size(); ++added) handles[added] = Add(states[added]);
    } catch (...) {
      while (added-- > 0) Remove(std::exchange(handles[added], nullptr));
      throw;
    }
  }

  // The object of a handle, which stays alive while a call uses it. Throws usage errors.
  std::shared_ptr<State> Find(const Handle* handle) const {
    const std::shared_lock lock(mutex_);
    const auto found = states_.find(Number(handle));
    if (found == states_.end()) Refuse(handle);
    return found->second;
  }

  // The same, and closes the handle.
  std::shared_ptr<State> Remove(const Handle* handle) {
    const std::unique_lock lock(mutex_);
    const auto found = states_.find(Number(handle));
    if (found == states_.end()) Refuse(handle);
    std::shared_ptr<State> state = std::move(found->second);
    states_.erase(found);
    return state;
  }

 private:
  static std::uintptr_t Number(const Handle* handle) {
    return reinterpret_cast<std::uintptr_t>(handle);
  }

  [[noreturn]] void Refuse(const Handle* handle) const {
    RequirePointer(handle, kind_);
    RefuseUsage("This " + std::string(kind_) + " is closed, or no " + kind_ + " at all.",
                "Use handles between opening and closing them.");
  }

  const char* kind_;                                                   // The name in errors.
  mutable std::shared_mutex mutex_;                                    // Guards the member below.
  std::unordered_map<std::uintptr_t, std::shared_ptr<State>> states_;  // By handle.
};

// The tables of the process; never destroyed, so that calls from other static objects are safe.
HandleTable<ptgc_generator, GeneratorState>& Generators();
HandleTable<ptgc_session, SessionState>& Sessions();
HandleTable<ptgc_result, ResultState>& Results();

}  // namespace ptgc::capi
