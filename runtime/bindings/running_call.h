// RunningCall: a call of Python into the core, which ends before the interpreter does.
//
// While Python is being finalised, it ends threads that request its lock. Until 3.13 it does so by
// unwinding their stacks, which aborts the process if C++ is on them. The module therefore ends all
// calls at exit and waits for them; a thread that comes too late sleeps instead.
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

// Registers a call while it lives, as the innermost of its thread. Created and destroyed with the
// interpreter's lock held. Raises if Python is ending.
class RunningCall {
 public:
  // `generator` is the generator that it uses, if that exists already.
  explicit RunningCall(Generator* generator);
  ~RunningCall();
  RunningCall(const RunningCall&) = delete;
  RunningCall& operator=(const RunningCall&) = delete;

  // The call that this thread is within; null for none.
  static RunningCall* Innermost();

  // Raises the exception that the call failed with.
  [[noreturn]] void Raise(const Error& error) const;
  // Stores an exception for this thread, rather than for the text that its round writes, until
  // RaiseInterruption.
  void Interrupt(std::exception_ptr error) { interruption_ = std::move(error); }
  void RaiseInterruption();

  std::thread::id thread() const { return thread_; }
  Generator* generator() const { return generator_; }
  bool in_python() const { return in_python_.load(std::memory_order_relaxed); }
  // Returns the previous value.
  bool set_in_python(bool value) { return in_python_.exchange(value, std::memory_order_relaxed); }

 private:
  Generator* generator_;             // The generator that it uses; may be null.
  void* calls_;                      // The list that it is registered in.
  RunningCall* outer_;               // The call whose callback made this one.
  std::exception_ptr interruption_;  // To be raised in its thread.
  std::atomic<bool> in_python_{false};
  std::thread::id thread_ = std::this_thread::get_id();
};

// At the interpreter's exit: refuses all later calls, ends those that are running, and waits until
// they have returned. It does not wait forever for callbacks that do not return.
void EndCalls();
// Whether EndCalls was called.
bool AreCallsEnding();

// Never returns, so that nothing on the stack is destroyed.
[[noreturn]] void SleepForGood();

// Releases the interpreter's lock while it lives.
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
  PyThreadState* state_;  // The state of this thread.
};

// Holds the interpreter's lock while it lives.
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
  PyGILState_STATE state_;                        // The state to restore.
  RunningCall* call_ = RunningCall::Innermost();  // May be null.
  bool was_in_python_ = false;                    // Whether a callback of it was running before.
};

// Calls Python from within a call into the core.
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

// Runs a body that may take long, without the interpreter's lock.
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
