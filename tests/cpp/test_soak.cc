// Memory does not grow, however long a generator is used.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "counted_new.h"
#include "generator_fixture.h"
#include "serving/session_handle.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

constexpr long kRounds = 1'000'000;
#ifdef __SANITIZE_ADDRESS__
constexpr bool kFreedMemoryIsKept = true;  // By the sanitizer, to find out who uses it.
#else
constexpr bool kFreedMemoryIsKept = false;
#endif

long ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  long size = 0;
  long resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// A generator that two threads use.
class Traffic {
 public:
  // Until there were `count` rounds more.
  void Run(long count) {
    const long end = rounds_ + count;
    std::atomic<bool> stop{false};
    std::thread beside([&] {
      while (!stop) WriteTexts();
    });
    while (rounds_ < end) UseSessions();
    stop = true;
    beside.join();
  }
  int broken_texts() const { return fixture_.seen.broken_texts; }
  // What the engine's calls hold: shape points are bound when they first occur, however late.
  long allocations_of_calls() const {
    // The call, its place in the model's map, the watched one within, and its two vectors.
    constexpr long kOfOneCall = 5;
    return kOfOneCall * std::ssize(fixture_.seen.widths);
  }

 private:
  void WriteTexts() {
    const std::vector<Result> results = fixture_.generator.Generate(requests_, {});
    for (std::size_t i = 0; i < results.size(); ++i) {
      EXPECT_EQ(results[i].token_ids.back(), last_tokens_[i]);
    }
  }

  // Opened, continued, taken back, copied, emptied and closed.
  void UseSessions() {
    SessionHandle session(fixture_.generator);
    session.Generate(Ask(60, prompt_), {});
    session.Rewind(40);
    const std::unique_ptr<SessionHandle> fork = session.Fork();
    EXPECT_EQ(fork->Generate(Ask(90), {}).token_ids.back(), text_[109]);
    session.Reset();
    Request plain = Ask(110, prompt_);
    plain.plain = true;
    Hooks hooks;
    hooks.on_tokens = [](std::size_t, std::span<const TokenId> tokens) { return !tokens.empty(); };
    EXPECT_EQ(session.Generate(plain, hooks).token_ids.back(), text_[109]);
  }

  std::atomic<long> rounds_{0};  // So far.
  GeneratorFixture fixture_{{.batch = 4, .before_run = [this] { ++rounds_; }}};
  const Tokens prompt_ = MakePrompt(9, 5);          // Of the sessions ...
  const Tokens text_ = Continuation(prompt_, 110);  // ... and what follows it.
  const std::vector<Request> requests_ = {Ask(100, MakePrompt(2, 1)), Ask(80, MakePrompt(20, 2)),
                                          Ask(110, MakePrompt(4, 3))};
  const Tokens last_tokens_ = {Continuation(MakePrompt(2, 1), 100).back(),
                               Continuation(MakePrompt(20, 2), 80).back(),
                               Continuation(MakePrompt(4, 3), 110).back()};
};

TEST(Soak, MemoryDoesNotGrow) {
  Traffic traffic;
  traffic.Run(kRounds / 10);
  const long resident = ResidentBytes();
  const long live = NumLiveAllocations() - traffic.allocations_of_calls();
  traffic.Run(kRounds);
  EXPECT_EQ(NumLiveAllocations() - traffic.allocations_of_calls(), live);
  if (!kFreedMemoryIsKept) {
    EXPECT_LE(ResidentBytes(), resident + (1 << 20));
  }
  EXPECT_EQ(traffic.broken_texts(), 0);
}

}  // namespace
}  // namespace ptgc
