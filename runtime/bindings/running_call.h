// RunningCall: a call of the core by Python, which ends before the interpreter does.
//
// Python ends threads that want its lock while it is being finalised, and until 3.13 it does so by
// unwinding their stacks, which aborts the process where there is C++ on them. Therefore the module
// ends all calls at exit and waits for them; a thread that comes too late sleeps instead.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <exception>
#include <thread>
#include <utility>

#include "base/error.h"
#include "serving/generator.h"

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace ptgc {

// Counts a call while it lives, as the innermost of its thread. Made and destroyed with the
// interpreter's lock. Raises where Python is ending.
class RunningCall {
 public:
  // `generator` is what it uses, where that exists already.
  explicit RunningCall(Generator* generator);
  ~RunningCall();
  RunningCall(const RunningCall&) = delete;
  RunningCall& operator=(const RunningCall&) = delete;

  // The call that this thread is within; null for none.
  static RunningCall* Innermost();

  // Raises what the call has failed with.
  [[noreturn]] void Raise(const Error& error) const;
  // Keeps an exception that is meant for this thread rather than for the text that its round
  // writes, until RaiseInterruption.
  void Interrupt(std::exception_ptr error) { interruption_ = std::move(error); }
  void RaiseInterruption();

  std::thread::id thread() const { return thread_; }
  Generator* generator() const { return generator_; }
  bool in_python() const { return in_python_.load(std::memory_order_relaxed); }
  // Gives what it was.
  bool set_in_python(bool value) { return in_python_.exchange(value, std::memory_order_relaxed); }

 private:
  Generator* generator_;             // What it uses; may be null.
  void* calls_;                      // Those among which it is counted.
  RunningCall* outer_;               // The call whose callback made this one.
  std::exception_ptr interruption_;  // What its thread is to raise.
  std::atomic<bool> in_python_{false};
  std::thread::id thread_ = std::this_thread::get_id();
};

// At the interpreter's exit: refuses all calls from now on, ends those that are running, and waits
// until they have returned; not for ever for those whose callbacks do not return.
void EndCalls();
// Whether EndCalls was called.
bool AreCallsEnding();

// Never returns; nothing on the stack is destroyed.
[[noreturn]] void SleepForGood();

// Gives the interpreter's lock up while it lives.
class WithoutPython {
 public:
  WithoutPython() : state_(PyEval_SaveThread()) {}
  ~WithoutPython() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {  // Python ends this thread.
      SleepForGood();
    }
  }
  WithoutPython(const WithoutPython&) = delete;
  WithoutPython& operator=(const WithoutPython&) = delete;

 private:
  PyThreadState* state_;  // This thread's.
};

// Has the interpreter's lock while it lives.
class WithPython {
 public:
  WithPython() {
    try {
      state_ = PyGILState_Ensure();
    } catch (...) {  // Python ends this thread.
      SleepForGood();
    }
    if (call_ != nullptr) was_in_python_ = call_->set_in_python(true);
  }
  ~WithPython() {
    if (call_ != nullptr) call_->set_in_python(was_in_python_);
    PyGILState_Release(state_);
  }
  WithPython(const WithPython&) = delete;
  WithPython& operator=(const WithPython&) = delete;

 private:
  PyGILState_STATE state_;                        // What to go back to.
  RunningCall* call_ = RunningCall::Innermost();  // May be null.
  bool was_in_python_ = false;                    // A callback of it is running already.
};

// Calls Python from within a call.
template <typename Body>
auto CallPython(Body body) {
  const WithPython python;
#if defined(__GLIBCXX__)
  try {
    return body();
  } catch (abi::__forced_unwind&) {  // Python ends this thread.
    SleepForGood();
  }
#else
  return body();
#endif
}

// Runs a body that may take long without the interpreter's lock.
template <typename Body>
auto RunUnlocked(Generator* generator, Body body) {
  const RunningCall call(generator);
  try {
    const WithoutPython unlocked;
    return body();
  } catch (const Error& error) {
    call.Raise(error);
  }
}

}  // namespace ptgc
