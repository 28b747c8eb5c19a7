#include "base/home_process.h"

#if defined(__GLIBC__)
#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#endif

namespace ptgc {

#if defined(__GLIBC__)

namespace {

void ExitAtOnce(int status, void*) {
  std::fflush(nullptr);
  _exit(status);
}

// Handlers that are registered last run first.
void RegisterInFork() { on_exit(&ExitAtOnce, nullptr); }

}  // namespace

void ExitForksAtOnce() {
  static const int registered = pthread_atfork(nullptr, nullptr, &RegisterInFork);
  static_cast<void>(registered);
}

#else

void ExitForksAtOnce() {}

#endif

}  // namespace ptgc
