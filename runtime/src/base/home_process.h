// HomeProcess: whether this is still the process in which an object was created.
#pragma once

#if defined(_WIN32)
#include <process.h>
#else
#include <unistd.h>
#endif

namespace ptgc {

// A forked process inherits objects without the threads that use them: their locks may be held
// forever, and the work of those threads is never done.
class HomeProcess {
 public:
  bool is_current() const { return id_ == Id(); }

 private:
#if defined(_WIN32)
  static int Id() { return _getpid(); }
#else
  static pid_t Id() { return getpid(); }
#endif

  decltype(Id()) id_ = Id();  // The process that created this.
};

// From now on, forked processes exit without running exit handlers that were registered before the
// fork: engine libraries would wait in them for threads that only this process has.
void ExitForksAtOnce();

}  // namespace ptgc
