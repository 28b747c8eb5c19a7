#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "c_api_fixture.h"

namespace ptgc::capi {
namespace {

// Cancels or closes a session from another thread while the text is written.
struct Interruption {
  ptgc_session* session;
  ptgc_status (*interrupt)(ptgc_session*);
  static int32_t Run(void* user_data, const ptgc_chunk*) {
    const auto& self = *static_cast<Interruption*>(user_data);
    std::thread([&self] { EXPECT_EQ(self.interrupt(self.session), PTGC_OK); }).join();
    return PTGC_CONTINUE;
  }
};

// The action, taken by another thread at the first token, ends the text.
void ExpectInterrupted(ptgc_session* session, decltype(Interruption::interrupt) interrupt) {
  Interruption interruption{session, interrupt};
  const Tokens prompt = MakePrompt(5, 1);
  const ptgc_request request = Ask(prompt, 50);
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_session_generate(session, &request, &Interruption::Run, &interruption, &result),
            PTGC_OK);
  EXPECT_EQ(ReasonOf(result), PTGC_FINISH_CANCELLED);
  EXPECT_EQ(TakeTokens(result).size(), 1U);
}

TEST(CApiThreads, AnotherThreadCancels) {
  const CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  ExpectInterrupted(session, &ptgc_session_cancel);
  ptgc_result* result = nullptr;
  const ptgc_request more = Ask({}, 5);
  ASSERT_EQ(ptgc_session_generate(session, &more, nullptr, nullptr, &result), PTGC_OK);
  EXPECT_EQ(ReasonOf(result), PTGC_FINISH_LENGTH);
  EXPECT_EQ(TakeTokens(result).size(), 5U);
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

TEST(CApiThreads, AnotherThreadClosesASessionThatIsWriting) {
  const CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  ExpectInterrupted(session, &ptgc_session_close);
  const Tokens prompt = MakePrompt(5, 1);
  ExpectRefusal(ptgc_session_append(session, prompt.data(), 1), PTGC_ERROR_USAGE, "closed");
  EXPECT_EQ(ptgc_session_close(fixture.OpenSession()), PTGC_OK);
}

// Cancels a text that waits for the row of the one that calls back, and then that one.
struct Canceller {
  ptgc_generator* generator;
  std::atomic<bool> begun{false};
  std::atomic<bool> waiting_ended{false};
  static int32_t Run(void* user_data, const ptgc_chunk*) {
    auto& self = *static_cast<Canceller*>(user_data);
    self.begun = true;
    while (!self.waiting_ended) {
      EXPECT_EQ(ptgc_generator_cancel(self.generator, &self.waiting_ended), PTGC_OK);
      std::this_thread::yield();
    }
    EXPECT_EQ(ptgc_generator_cancel(self.generator, &self), PTGC_OK);
    return PTGC_CONTINUE;
  }
};

TEST(CApiThreads, CallsAreCancelledAlsoWhereTheyWaitForARow) {
  const CApiFixture fixture(1);
  Canceller canceller{fixture.generator};
  const Tokens prompt = MakePrompt(5, 1);
  const ptgc_request request = Ask(prompt, 50);
  const ptgc_request* pointer = &request;
  std::thread waiting([&] {
    while (!canceller.begun) std::this_thread::yield();
    ptgc_result* result = nullptr;
    EXPECT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, nullptr,
                                      &canceller.waiting_ended, &result),
              PTGC_OK);
    EXPECT_EQ(ReasonOf(result), PTGC_FINISH_CANCELLED);
    EXPECT_TRUE(TakeTokens(result).empty());
    canceller.waiting_ended = true;
  });
  ptgc_result* result = nullptr;
  EXPECT_EQ(
      ptgc_generator_generate(fixture.generator, &pointer, 1, &Canceller::Run, &canceller, &result),
      PTGC_OK);
  waiting.join();
  EXPECT_EQ(ReasonOf(result), PTGC_FINISH_CANCELLED);
  EXPECT_EQ(TakeTokens(result).size(), 1U);
}

TEST(CApiThreads, ManyThreadsUseSessionsOfOneGenerator) {
  const CApiFixture fixture(4);
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&fixture, &right, i] {
      const Tokens prompt = MakePrompt(10 + i, i);
      ptgc_session* session = fixture.OpenSession();
      Tokens text;
      for (int turn = 0; turn < 10; ++turn) {
        const ptgc_request request = turn == 0 ? Ask(prompt, 5) : Ask({}, 5);
        ptgc_result* result = nullptr;
        EXPECT_EQ(ptgc_session_generate(session, &request, nullptr, nullptr, &result), PTGC_OK);
        const Tokens more = TakeTokens(result);
        text.insert(text.end(), more.begin(), more.end());
      }
      if (text == Continuation(prompt, 50)) ++right;
      EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 4);
}

// Many threads on one session: calls wait for each other.
TEST(CApiThreads, ManyThreadsUseOneSession) {
  const CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  const Tokens prompt = MakePrompt(10, 1);
  ASSERT_EQ(ptgc_session_append(session, prompt.data(), prompt.size()), PTGC_OK);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([session] {
      const ptgc_request request = Ask({}, 10);
      ptgc_result* result = nullptr;
      EXPECT_EQ(ptgc_session_generate(session, &request, nullptr, nullptr, &result), PTGC_OK);
      EXPECT_EQ(TakeTokens(result).size(), 10U);
    });
  }
  for (std::thread& thread : threads) thread.join();
  Tokens held(50);
  size_t length = 0;
  ASSERT_EQ(ptgc_session_get_token_ids(session, held.data(), held.size(), &length), PTGC_OK);
  EXPECT_EQ(length, 50U);
  EXPECT_EQ(Tokens(held.begin() + 10, held.end()), Continuation(prompt, 40));
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

}  // namespace
}  // namespace ptgc::capi
