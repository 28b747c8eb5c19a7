#include "callback.h"

#include "status.h"

namespace ptgc::capi {
namespace {

// The callbacks that this thread is within, the innermost first.
class Within {
 public:
  explicit Within(const GeneratorState* generator) : generator_(generator), outer_(innermost) {
    innermost = this;
  }
  ~Within() { innermost = outer_; }
  Within(const Within&) = delete;
  Within& operator=(const Within&) = delete;

  static bool Any(const GeneratorState* generator) {
    for (const Within* scope = innermost; scope != nullptr; scope = scope->outer_) {
      if (scope->generator_ == generator) return true;
    }
    return false;
  }

 private:
  static thread_local const Within* innermost;

  const GeneratorState* generator_;  // The generator that calls back.
  const Within* outer_;              // The callback around it, of another generator.
};

thread_local const Within* Within::innermost = nullptr;

}  // namespace

bool Callback::operator()(std::size_t index, std::size_t position,
                          std::span<const TokenId> tokens) const {
  if (function == nullptr || tokens.empty()) return true;
  const ptgc_chunk chunk{sizeof(ptgc_chunk), index, position, tokens.data(), tokens.size()};
  const Within within(whose);
  try {
    return function(user_data, &chunk) == PTGC_CONTINUE;
  } catch (...) {
    RefuseUsage("A callback has thrown an exception.",
                "Catch it in the callback and return PTGC_STOP.");
  }
}

void RefuseWithinCallback(const GeneratorState& generator) {
  if (!Within::Any(&generator)) return;
  RefuseUsage("A generator was called from within its own callback.",
              "Return from the callback first; only ptgc_session_cancel and ptgc_generator_cancel "
              "may be called there.");
}

}  // namespace ptgc::capi
