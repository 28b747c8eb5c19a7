// The clock of all statistics.
#pragma once

#include <chrono>

namespace ptgc {

using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace ptgc
