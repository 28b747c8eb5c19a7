#include "handles.h"

#include <atomic>

namespace ptgc::capi {

std::uintptr_t NextHandleNumber() {
  // Numbers spaced like addresses, and far from zero, where NULL plus an offset would be.
  static std::atomic<std::uintptr_t> next{0x10000};
  return next.fetch_add(16, std::memory_order_relaxed);
}

HandleTable<ptgc_generator, GeneratorState>& Generators() {
  static auto* table = new HandleTable<ptgc_generator, GeneratorState>("generator");
  return *table;
}

HandleTable<ptgc_session, SessionState>& Sessions() {
  static auto* table = new HandleTable<ptgc_session, SessionState>("session");
  return *table;
}

HandleTable<ptgc_result, ResultState>& Results() {
  static auto* table = new HandleTable<ptgc_result, ResultState>("result");
  return *table;
}

}  // namespace ptgc::capi
