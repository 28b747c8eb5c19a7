#include "running_call.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>

#include "base/clock.h"
#include "python_errors.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace nb = nanobind;

namespace ptgc {
namespace {

using std::chrono::milliseconds;

// How long EndCalls waits if only callbacks are running.
constexpr double kSecondsForCallbacks = 5;

// All calls of the process.
struct Calls {
  std::mutex mutex;                  // Guards the members below.
  std::condition_variable returned;  // Notified when a call has returned.
  std::list<RunningCall*> running;   // Calls that have not returned.
  bool ending = false;               // Whether further calls are refused.
  std::thread::id ender;             // The thread that called EndCalls.
};

// Never destroyed, because threads may use it until the process ends.
Calls* all_calls = nullptr;
thread_local RunningCall* innermost = nullptr;

// A forked process has none of the calls, and their lock may be held forever.
void ForgetCalls() { all_calls = new Calls; }

Calls& AllCalls() {
  static const bool made = [] {
    ForgetCalls();
#if !defined(_WIN32)
    pthread_atfork(nullptr, nullptr, ForgetCalls);
#endif
    return true;
  }();
  static_cast<void>(made);
  return *all_calls;
}

// Ends a thread silently; the thread that is ending Python itself gets an error instead.
[[noreturn]] void RaiseEnding(bool is_ender) {
  if (is_ender) {
    RaiseInPython(Error(ErrorCode::kUsage, "This process is ending.",
                        "Generate before functions run that atexit has registered."));
  } else {
    PyErr_SetNone(PyExc_SystemExit);
  }
  nb::raise_python_error();
}

}  // namespace

RunningCall::RunningCall(Generator* generator) : generator_(generator), outer_(innermost) {
  Calls& calls = AllCalls();
  calls_ = &calls;
  bool is_ender = false;
  {
    const std::lock_guard lock(calls.mutex);
    is_ender = calls.ender == thread_;
    if (!calls.ending) calls.running.push_back(this);
    if (!calls.ending) innermost = this;
  }
  if (innermost != this) RaiseEnding(is_ender);
}

RunningCall::~RunningCall() {
  innermost = outer_;
  if (calls_ != all_calls) return;  // A callback forked.
  const std::lock_guard lock(all_calls->mutex);
  all_calls->running.remove(this);
  all_calls->returned.notify_all();
}

RunningCall* RunningCall::Innermost() { return innermost; }

void RunningCall::Raise(const Error& error) const {
  if (AreCallsEnding()) RaiseEnding(false);
  RaiseInPython(error);
  nb::raise_python_error();
}

void RunningCall::RaiseInterruption() {
  if (interruption_ != nullptr) std::rethrow_exception(std::exchange(interruption_, nullptr));
}

bool AreCallsEnding() {
  Calls& calls = AllCalls();
  const std::lock_guard lock(calls.mutex);
  return calls.ending;
}

void EndCalls() {
  nb::set_leak_warnings(false);  // Threads that Python stops do not free what they use.
  const WithoutPython unlocked;
  Calls& calls = AllCalls();
  std::unique_lock lock(calls.mutex);
  calls.ending = true;
  calls.ender = std::this_thread::get_id();
  for (const RunningCall* call : calls.running) {
    if (call->generator() != nullptr) call->generator()->Stop();
  }
  const auto is_foreign = [&](const RunningCall* call) { return call->thread() != calls.ender; };
  const auto works = [&](const RunningCall* call) {
    return is_foreign(call) && !call->in_python();
  };
  const auto any = [&](auto which) {
    return std::any_of(calls.running.begin(), calls.running.end(), which);
  };
  Clock::time_point waits_since = Clock::now();
  while (any(is_foreign) && SecondsSince(waits_since) < kSecondsForCallbacks) {
    calls.returned.wait_for(lock, milliseconds(20));
    if (any(works)) waits_since = Clock::now();
  }
}

void SleepForGood() {
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace ptgc
