// HomeProcess: whether this is still the process that something was made in.
#pragma once

#if defined(_WIN32)
#include <process.h>
#else
#include <unistd.h>
#endif

namespace ptgc {

// A process that was forked inherits objects without the threads that use them: their locks may be
// held for good, and what those threads were to do is never done.
class HomeProcess {
 public:
  bool is_current() const { return id_ == Id(); }

 private:
#if defined(_WIN32)
  static int Id() { return _getpid(); }
#else
  static pid_t Id() { return getpid(); }
#endif

  decltype(Id()) id_ = Id();  // The process that made this.
};

// From now on, forked processes exit without what was registered before the fork to run at exit:
// engine libraries would wait there for threads that only this process has.
void ExitForksAtOnce();

}  // namespace ptgc
