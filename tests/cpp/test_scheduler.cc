#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <future>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "generator_fixture.h"
#include "serving/scheduler.h"
#include "serving/session_handle.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;
using std::chrono::milliseconds;

// Runs `body(0)` to `body(count - 1)` at the same time; the first exception is thrown here.
template <typename Body>
void InThreads(int count, Body body) {
  std::vector<std::future<void>> ends;
  for (int i = 0; i < count; ++i) ends.push_back(std::async(std::launch::async, body, i));
  for (std::future<void>& end : ends) end.get();
}

// Something that one thread waits for and another lets happen.
class Gate {
 public:
  void Open() { promise_.set_value(); }
  void Wait() { future_.wait(); }
  bool IsOpen() { return future_.wait_for(milliseconds(0)) == std::future_status::ready; }

 private:
  std::promise<void> promise_;
  std::shared_future<void> future_ = promise_.get_future().share();
};

// An engine whose first run waits: what is called meanwhile has to wait for the round.
struct HeldRound {
  std::function<void()> BeforeRun() {
    return [this] {
      if (runs++ > 0) return;
      begun.Open();
      go.Wait();
    };
  }
  std::atomic<int> runs{0};
  Gate begun;
  Gate go;
};

Result WriteOne(Generator& generator, const Request& request, const Hooks& hooks = {}) {
  return generator.Generate({&request, 1}, hooks)[0];
}

// The same in a thread of its own.
std::future<Result> WriteBeside(Generator& generator, Request request, Hooks hooks = {}) {
  return std::async(std::launch::async,
                    [&generator, request = std::move(request), hooks = std::move(hooks)] {
                      return WriteOne(generator, request, hooks);
                    });
}

// Runs of the engine for texts that are written one after the other.
int RunsOfTexts(const std::vector<Request>& requests) {
  GeneratorFixture fixture({.batch = 1});
  for (const Request& request : requests) WriteOne(fixture.generator, request);
  return fixture.seen.runs;
}

class SharedRounds : public testing::TestWithParam<bool> {};

// Fewer runs than the texts take one by one: threads step together, callbacks or not.
TEST_P(SharedRounds, TakeInTheTextsOfAllThreads) {
  constexpr int kThreads = 8;
  std::atomic<int> called{0};
  GeneratorFixture fixture({.batch = kThreads, .before_run = [&] {
                              while (called < kThreads) std::this_thread::yield();
                              std::this_thread::sleep_for(milliseconds(2));
                            }});
  std::vector<Request> requests;
  for (int i = 0; i < kThreads; ++i) requests.push_back(Ask(50, MakePrompt(5 + i, i)));
  InThreads(kThreads, [&](int i) {
    const Request& request = requests[static_cast<std::size_t>(i)];
    Tokens heard;
    Hooks hooks;
    if (GetParam()) {
      hooks.on_tokens = [&](std::size_t, std::span<const TokenId> tokens) {
        heard.insert(heard.end(), tokens.begin(), tokens.end());
        return true;
      };
    }
    ++called;
    const Result result = WriteOne(fixture.generator, request, hooks);
    EXPECT_EQ(result.token_ids, Continuation(request.prompt_ids, 50));
    if (GetParam()) {
      EXPECT_EQ(heard, result.token_ids);
    }
  });
  EXPECT_EQ(fixture.seen.broken_texts, 0);
  EXPECT_LT(fixture.seen.runs * 2, RunsOfTexts(requests));
}

INSTANTIATE_TEST_SUITE_P(Callbacks, SharedRounds, testing::Bool());

// As rounds of a real engine, those of the made-up one leave others time to call.
void RestAWhile() { std::this_thread::sleep_for(std::chrono::microseconds(50)); }

// Calls of one kind keep coming; one of the other kind has its turn nevertheless.
TEST(Scheduler, SessionsAndTextsGetRowsInTheOrderOfTheCalls) {
  GeneratorFixture fixture({.batch = 2, .before_run = RestAWhile});
  std::atomic<bool> stop{false};
  std::atomic<int> written{0};
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([&, i] {
      const std::vector<Request> requests(3, Ask(20, MakePrompt(5, i)));
      while (!stop) {
        fixture.generator.Generate(requests, {});
        written += 3;
      }
    });
  }
  while (written < 12) std::this_thread::yield();
  for (int i = 0; i < 20; ++i) {
    const int before = written;
    const SessionHandle session(fixture.generator);
    // A dozen were called before it; more are written until this thread is awake.
    EXPECT_LE(written - before, 400);
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
}

TEST(Scheduler, NoThreadStarves) {
  GeneratorFixture fixture({.batch = 1, .before_run = RestAWhile});
  constexpr int kTexts = 40;
  std::vector<std::atomic<int>> written(4);
  std::barrier together(4);
  InThreads(4, [&](int i) {
    together.arrive_and_wait();
    const Request request = Ask(10, MakePrompt(4, i));
    for (int text = 0; text < kTexts; ++text) {
      WriteOne(fixture.generator, request);
      ++written[static_cast<std::size_t>(i)];
      if (text + 1 < kTexts) continue;
      for (const std::atomic<int>& others : written) EXPECT_GE(others, kTexts / 4);
    }
  });
}

TEST(Scheduler, WithoutWaitingACallFailsAtOnce) {
  HeldRound round;
  GeneratorFixture fixture(
      {.batch = 1, .waiting = {.seconds = 0}, .before_run = round.BeforeRun()});
  auto first = WriteBeside(fixture.generator, Ask(20, MakePrompt(6, 1)));
  round.begun.Wait();
  EXPECT_EQ(CodeOf([&] { WriteOne(fixture.generator, Ask(3, {1})); }), ErrorCode::kBusy);
  EXPECT_EQ(CodeOf([&] { SessionHandle session(fixture.generator); }), ErrorCode::kBusy);
  round.go.Open();
  EXPECT_EQ(first.get().token_ids, Continuation(MakePrompt(6, 1), 20));
  EXPECT_EQ(WriteOne(fixture.generator, Ask(3, {1})).token_ids, Continuation({1}, 3));
}

TEST(Scheduler, WaitsItsSecondsForARowThatASessionKeeps) {
  GeneratorFixture fixture({.batch = 1, .waiting = {.seconds = 0.08}});
  auto session = std::make_unique<SessionHandle>(fixture.generator);
  const Clock::time_point start = Clock::now();
  EXPECT_EQ(CodeOf([&] { WriteOne(fixture.generator, Ask(3, {1})); }), ErrorCode::kBusy);
  EXPECT_EQ(CodeOf([&] { SessionHandle another(fixture.generator); }), ErrorCode::kBusy);
  EXPECT_GE(SecondsSince(start), 0.16);
}

TEST(Scheduler, ClosedSessionMakesRoomForWhoWaits) {
  GeneratorFixture fixture({.batch = 1, .waiting = {.seconds = 1e300}});
  auto session = std::make_unique<SessionHandle>(fixture.generator);
  session->Append(Tokens{5, 6});
  auto text = WriteBeside(fixture.generator, Ask(9, {1}));
  auto opened = std::async(std::launch::async, [&] {
    return std::make_unique<SessionHandle>(fixture.generator)->Length();
  });
  std::this_thread::sleep_for(milliseconds(5));
  session.reset();
  EXPECT_EQ(text.get().token_ids, Continuation({1}, 9));
  EXPECT_EQ(opened.get(), 0);
}

struct GivenUp {};

TEST(Scheduler, WhoWaitsForASessionMayGiveUpAndTakesNoRow) {
  GeneratorFixture fixture({.batch = 1, .waiting = {.seconds = 1e300}});
  auto session = std::make_unique<SessionHandle>(fixture.generator);
  session->Append(Tokens{5, 6});
  const Hooks gives_up{.poll = [] { throw GivenUp(); }};
  EXPECT_THROW(SessionHandle(fixture.generator, gives_up), GivenUp);
  EXPECT_THROW(session->Fork(gives_up), GivenUp);
  session.reset();
  EXPECT_EQ(SessionHandle(fixture.generator, gives_up).Length(), 0);  // Nothing to wait for.
  EXPECT_EQ(WriteOne(fixture.generator, Ask(3, {1})).token_ids, Continuation({1}, 3));
}

TEST(Scheduler, WhoGivesUpWhenTheRowIsThereGivesItBack) {
  HeldRound round;
  GeneratorFixture fixture({.batch = 1, .before_run = round.BeforeRun()});
  auto text = WriteBeside(fixture.generator, Ask(3, MakePrompt(6, 1)));
  round.begun.Wait();
  const Hooks gives_up{.poll = [&] {
    round.go.Open();
    text.wait();
    // The next call hands the row to who came first, and finds none for itself.
    EXPECT_EQ(CodeOf([&] { WriteBeside(fixture.generator, Ask(3, {1})).get(); }), ErrorCode::kBusy);
    throw GivenUp();
  }};
  EXPECT_THROW(SessionHandle(fixture.generator, gives_up), GivenUp);
  EXPECT_EQ(WriteOne(fixture.generator, Ask(3, {1})).token_ids, Continuation({1}, 3));
}

// One that waits for a row runs them where the thread of the text is busy with its poll.
TEST(Scheduler, WhoRunsRoundsForOthersPollsAfterEach) {
  GeneratorFixture fixture({.batch = 1});
  Gate begun;
  Gate go;
  const Hooks busy{.poll = [&] {
    if (!begun.IsOpen()) begun.Open();
    go.Wait();
  }};
  auto text = WriteBeside(fixture.generator, Ask(40, {1}), busy);
  begun.Wait();
  int polls = 0;
  const SessionHandle session(fixture.generator, {.poll = [&] { ++polls; }});
  go.Open();
  EXPECT_GE(polls, text.get().statistics.rounds - 1);
}

// For as long as texts are being written, but not for sessions, which need not end.
TEST(Scheduler, WaitsForTextsWithoutLimit) {
  HeldRound round;
  GeneratorFixture fixture({.batch = 2, .before_run = round.BeforeRun()});
  auto session = std::make_unique<SessionHandle>(fixture.generator);
  auto first = WriteBeside(fixture.generator, Ask(20, MakePrompt(6, 1)));
  round.begun.Wait();
  auto second = WriteBeside(fixture.generator, Ask(9, MakePrompt(6, 2)));
  EXPECT_EQ(second.wait_for(milliseconds(120)), std::future_status::timeout);
  round.go.Open();
  EXPECT_EQ(second.get().token_ids, Continuation(MakePrompt(6, 2), 9));
  first.get();
  const SessionHandle last(fixture.generator);
  EXPECT_EQ(CodeOf([&] { WriteOne(fixture.generator, Ask(3, {1})); }), ErrorCode::kBusy);
}

TEST(Scheduler, RefusesMoreTextsThanMayWait) {
  HeldRound round;
  GeneratorFixture fixture(
      {.batch = 2, .waiting = {.max_texts = 2}, .before_run = round.BeforeRun()});
  const std::vector<Request> four(4, Ask(10, {1, 2}));
  const std::vector<Request> five(5, Ask(10, {1, 2}));
  EXPECT_EQ(CodeOf([&] { fixture.generator.Generate(five, {}); }), ErrorCode::kBusy);
  auto first = std::async(std::launch::async, [&] { return fixture.generator.Generate(four, {}); });
  round.begun.Wait();
  EXPECT_EQ(CodeOf([&] { WriteOne(fixture.generator, four[0]); }), ErrorCode::kBusy);
  EXPECT_EQ(CodeOf([&] { SessionHandle session(fixture.generator); }), ErrorCode::kBusy);
  round.go.Open();
  for (const Result& result : first.get()) EXPECT_EQ(result.token_ids, Continuation({1, 2}, 10));
  EXPECT_EQ(WriteOne(fixture.generator, four[0]).token_ids, Continuation({1, 2}, 10));
}

TEST(Scheduler, TextThatWaitsEndsAtItsDeadline) {
  HeldRound round;
  GeneratorFixture fixture({.batch = 1, .before_run = round.BeforeRun()});
  auto first = WriteBeside(fixture.generator, Ask(20, MakePrompt(6, 1)));
  round.begun.Wait();
  std::vector<Request> requests(2, Ask(5, {1, 2}));
  requests[0].deadline_seconds = 0.01;
  auto second =
      std::async(std::launch::async, [&] { return fixture.generator.Generate(requests, {}); });
  const Request late = requests[0];
  EXPECT_EQ(WriteOne(fixture.generator, late).finish_reason, FinishReason::kDeadline);
  EXPECT_EQ(first.wait_for(milliseconds(0)), std::future_status::timeout);
  round.go.Open();
  const std::vector<Result> results = second.get();
  EXPECT_EQ(results[0].finish_reason, FinishReason::kDeadline);
  EXPECT_EQ(results[1].token_ids, Continuation({1, 2}, 5));
  first.get();
}

// The deadline of one text is no row for the call's others.
TEST(Scheduler, CallWhoseFirstTextExpiredStillWaitsOnlyItsSeconds) {
  GeneratorFixture fixture({.batch = 1, .waiting = {.seconds = 0.1}});
  SessionHandle session(fixture.generator);
  std::vector<Request> requests(2, Ask(5, {1, 2}));
  requests[0].deadline_seconds = 1e-3;
  EXPECT_EQ(CodeOf([&] { fixture.generator.Generate(requests, {}); }), ErrorCode::kBusy);
}

TEST(Scheduler, EngineErrorEndsAllTextsOfTheRound) {
  constexpr int kThreads = 4;
  std::atomic<int> called{0};
  std::atomic<int> runs{0};
  GeneratorFixture fixture({.batch = kThreads, .before_run = [&] {
                              while (called < kThreads) std::this_thread::yield();
                              if (++runs == 1) std::this_thread::sleep_for(milliseconds(20));
                              if (runs == 6) throw std::runtime_error("the engine broke");
                            }});
  std::vector<std::unique_ptr<SessionHandle>> sessions(kThreads);
  for (std::size_t i = 0; i < 2; ++i) {
    sessions[i] = std::make_unique<SessionHandle>(fixture.generator);
  }
  InThreads(kThreads, [&](int i) {
    const Request request = Ask(40, MakePrompt(6, i));
    SessionHandle* session = sessions[static_cast<std::size_t>(i)].get();
    ++called;
    EXPECT_THROW(
        session != nullptr ? session->Generate(request, {}) : WriteOne(fixture.generator, request),
        std::runtime_error);
  });
  EXPECT_EQ(fixture.generator.free_rows(), 2);
  for (std::size_t i = 0; i < 2; ++i) {
    const Tokens text = sessions[i]->Tokens();
    EXPECT_EQ(sessions[i]->Generate(Ask(30), {}).token_ids, Continuation(text, 30));
  }
  EXPECT_EQ(WriteOne(fixture.generator, Ask(30, {3, 4})).token_ids, Continuation({3, 4}, 30));
  EXPECT_EQ(fixture.seen.broken_texts, 0);
}

// What no other thread may rethrow, as exceptions of Python are.
struct ForOneThread : std::runtime_error {
  using std::runtime_error::runtime_error;
};

TEST(Scheduler, EngineErrorIsAnErrorOfItsOwnForEachThread) {
  constexpr int kThreads = 5;
  std::atomic<int> called{0};
  std::atomic<int> runs{0};
  GeneratorFixture fixture({.batch = kThreads, .before_run = [&] {
                              while (called < kThreads) std::this_thread::yield();
                              if (++runs == 1) std::this_thread::sleep_for(milliseconds(20));
                              if (runs == 6) throw ForOneThread("it broke");
                            }});
  std::mutex mutex;
  std::set<const void*> errors;
  std::vector<std::exception_ptr> held;
  std::atomic<int> originals{0};
  InThreads(kThreads, [&](int i) {
    ++called;
    try {
      WriteOne(fixture.generator, Ask(40, MakePrompt(6, i)));
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      const std::lock_guard lock(mutex);
      held.push_back(std::current_exception());
      errors.insert(&error);
      originals += dynamic_cast<const ForOneThread*>(&error) != nullptr ? 1 : 0;
      EXPECT_NE(std::string(error.what()).find("it broke"), std::string::npos);
    }
  });
  EXPECT_EQ(errors.size(), std::size_t{kThreads});
  EXPECT_EQ(originals, 1);
}

TEST(Scheduler, TextThatWaitsForARowIsCancelled) {
  HeldRound round;
  GeneratorFixture fixture({.batch = 1, .before_run = round.BeforeRun()});
  auto first = WriteBeside(fixture.generator, Ask(20, MakePrompt(6, 1)));
  round.begun.Wait();
  std::atomic<bool> cancelled{false};
  auto second = WriteBeside(fixture.generator, Ask(9, {1}), {.cancelled = &cancelled});
  EXPECT_EQ(second.wait_for(milliseconds(20)), std::future_status::timeout);
  cancelled = true;
  const Result result = second.get();  // The round of the other text has not ended.
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(result.token_ids.empty());
  round.go.Open();
  EXPECT_EQ(first.get().token_ids, Continuation(MakePrompt(6, 1), 20));
}

TEST(Scheduler, TextThatIsWrittenIsCancelled) {
  GeneratorFixture fixture({.batch = 1});
  std::atomic<bool> cancelled{false};
  Hooks hooks{.cancelled = &cancelled};
  hooks.on_tokens = [&](std::size_t, std::span<const TokenId>) { return cancelled = true; };
  const Result result = WriteOne(fixture.generator, Ask(50, {1}), hooks);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.token_ids.size(), 1U);
}

// The list would not end before the short call does.
TEST(Scheduler, ShortCallIsWrittenWhileALongListIs) {
  GeneratorFixture fixture({.batch = 2, .before_run = RestAWhile});
  std::atomic<bool> stop{false};
  std::atomic<int> unfinished{0};
  Gate begun;
  std::atomic<bool> is_open{false};
  Hooks hooks;
  hooks.on_tokens = [&](std::size_t, std::span<const TokenId>) {
    if (!is_open.exchange(true)) begun.Open();
    return !stop;
  };
  const std::vector<Request> list(20000, Ask(20, MakePrompt(5, 1)));
  auto results =
      std::async(std::launch::async, [&] { return fixture.generator.Generate(list, hooks); });
  begun.Wait();
  EXPECT_EQ(WriteOne(fixture.generator, Ask(9, {1})).token_ids, Continuation({1}, 9));
  stop = true;
  for (const Result& result : results.get()) unfinished += result.token_ids.size() < 20 ? 1 : 0;
  EXPECT_GT(unfinished, 10000);
}

// A child has none of its parent's threads: it can use nothing, and waits for nobody.
TEST(Scheduler, ForkedProcessIsRefusedAndEnds) {
  GeneratorFixture fixture({.batch = 2, .before_run = RestAWhile});
  auto session = std::make_unique<SessionHandle>(fixture.generator);
  std::atomic<bool> stop{false};
  Hooks hooks;
  hooks.on_tokens = [&](std::size_t, std::span<const TokenId>) { return !stop; };
  auto texts = std::async(std::launch::async, [&] {
    while (!stop) WriteOne(fixture.generator, Ask(50, {1}), hooks);
  });
  const pid_t child = fork();
  if (child == 0) {
    const auto refused = [](auto action) {
      try {
        action();
      } catch (const Error& error) {
        return error.code() == ErrorCode::kUsage;
      }
      return false;
    };
    const bool right = refused([&] { WriteOne(fixture.generator, Ask(3, {1})); }) &&
                       refused([&] { session->Append(Tokens{1}); }) &&
                       refused([&] { fixture.generator.Close(); }) &&
                       refused([&] { SessionHandle another(fixture.generator); });
    session.reset();
    _exit(right ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  stop = true;
  texts.get();
}

// The thrower's rows may be in a round of another thread just then.
TEST(Scheduler, ThrowingHooksHarmNobodyElse) {
  GeneratorFixture fixture({.batch = 3, .before_run = [] {
                              std::this_thread::sleep_for(std::chrono::microseconds(200));
                            }});
  InThreads(6, [&](int i) {
    const Request request = Ask(30, MakePrompt(4 + i, i));
    for (int text = 0; text < 8; ++text) {
      int heard = 0;
      Hooks hooks;
      if (i % 3 == 1) {
        hooks.poll = [] {
          std::this_thread::sleep_for(std::chrono::microseconds(300));
          throw std::logic_error("poll");
        };
      }
      if (i % 3 == 2) {
        hooks.on_tokens = [&](std::size_t, std::span<const TokenId>) {
          return heard++ < 3 ? true : throw std::logic_error("on_tokens");
        };
      }
      if (i % 3 == 0) {
        EXPECT_EQ(WriteOne(fixture.generator, request).token_ids,
                  Continuation(request.prompt_ids, 30));
      } else {
        EXPECT_THROW(WriteOne(fixture.generator, request, hooks), std::logic_error);
      }
    }
  });
  EXPECT_EQ(fixture.generator.free_rows(), 3);
  EXPECT_EQ(fixture.seen.broken_texts, 0);
}

TEST(Scheduler, SlowCallbackHoldsUpNobodyElse) {
  GeneratorFixture fixture({.batch = 2});
  Gate heard;
  Gate go_on;
  Hooks hooks;
  hooks.on_tokens = [&](std::size_t, std::span<const TokenId>) {
    if (heard.IsOpen()) return true;
    heard.Open();
    go_on.Wait();
    return true;
  };
  auto slow = WriteBeside(fixture.generator, Ask(20, MakePrompt(6, 1)), hooks);
  heard.Wait();
  EXPECT_EQ(WriteOne(fixture.generator, Ask(20, {1})).token_ids, Continuation({1}, 20));
  {
    SessionHandle session(fixture.generator);
    EXPECT_EQ(session.Generate(Ask(20, {1}), {}).token_ids, Continuation({1}, 20));
  }
  go_on.Open();
  EXPECT_EQ(slow.get().token_ids, Continuation(MakePrompt(6, 1), 20));
}

// All that run, wait for a row, wait to open a session or touch one hear of it, and Close returns
// when they have.
TEST(Scheduler, CloseEndsWhatIsUnderWay) {
  for (int time = 0; time < 10; ++time) {
    GeneratorFixture fixture({.batch = 3, .waiting = {.seconds = 100}});
    SessionHandle session(fixture.generator);
    SessionHandle reset(fixture.generator);
    std::atomic<int> heard{0};
    std::atomic<int> refused{0};
    Hooks hooks;
    hooks.on_tokens = [&](std::size_t, std::span<const TokenId>) { return ++heard > 0; };
    std::vector<std::thread> threads;
    const auto until_refused = [&](auto action) {
      threads.emplace_back([&refused, action] {
        try {
          while (true) action();
        } catch (const Error& error) {
          refused += error.code() == ErrorCode::kUsage ? 1 : 0;
        }
      });
    };
    until_refused([&] { WriteOne(fixture.generator, Ask(50, MakePrompt(4, 1))); });
    until_refused([&] { WriteOne(fixture.generator, Ask(50, MakePrompt(4, 2)), hooks); });
    until_refused([&] { SessionHandle another(fixture.generator); });
    until_refused([&] {
      session.Reset();
      session.Generate(Ask(40, MakePrompt(4, 3)), hooks);
    });
    until_refused([&] {
      reset.Reset();
      reset.Append(Tokens{1, 2});
      reset.Rewind(1);
    });
    while (heard < 5 + time) std::this_thread::yield();
    fixture.generator.Close();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(refused, 5);
    EXPECT_EQ(CodeOf([&] { session.Length(); }), ErrorCode::kUsage);
    EXPECT_EQ(CodeOf([&] { fixture.generator.Close(); }), ErrorCode::kUsage);
  }
}

}  // namespace
}  // namespace ptgc
