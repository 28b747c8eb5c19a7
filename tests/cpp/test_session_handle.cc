#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "generator_fixture.h"
#include "serving/session_handle.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

struct Fixture {
  explicit Fixture(int batch)
      : generator(SubstituteBundle(batch, NgramPlan()), SubstituteEngines(seen), {}) {}
  Observations seen;
  Generator generator;
};

TEST(SessionHandle, GoesOnWhereItStopped) {
  Fixture fixture(2);
  SessionHandle session(fixture.generator);
  const Tokens prompt = MakePrompt(20, 1);
  session.Append(prompt);
  const Tokens text = Continuation(prompt, 50);
  EXPECT_EQ(session.Generate(Ask(20), {}).token_ids, Tokens(text.begin(), text.begin() + 20));
  EXPECT_EQ(session.Generate(Ask(30), {}).token_ids, Tokens(text.begin() + 20, text.end()));
  EXPECT_EQ(session.Length(), 70);
  Tokens all = session.Tokens();
  all.push_back(4);
  EXPECT_EQ(session.Generate(Ask(5, {4}), {}).token_ids, Continuation(all, 5));
}

TEST(SessionHandle, KeepsItsTextWhileOthersRun) {
  Fixture fixture(2);
  SessionHandle session(fixture.generator);
  const Tokens prompt = MakePrompt(20, 1);
  const Tokens text = Continuation(prompt, 40);
  session.Generate(Ask(10, prompt), {});
  std::vector<Request> others;
  for (int i = 0; i < 3; ++i) others.push_back(Ask(60, MakePrompt(50, i)));
  for (std::size_t i = 0; const Result& result : fixture.generator.Generate(others, {})) {
    EXPECT_EQ(result.token_ids, Continuation(others[i++].prompt_ids, 60));
  }
  EXPECT_EQ(session.Generate(Ask(30), {}).token_ids, Tokens(text.begin() + 10, text.end()));
  EXPECT_EQ(fixture.seen.broken_texts, 0);
}

TEST(SessionHandle, TakesARowUntilItIsClosed) {
  Fixture fixture(2);
  SessionHandle first(fixture.generator);
  {
    SessionHandle second(fixture.generator);
    EXPECT_EQ(fixture.generator.free_rows(), 0);
    EXPECT_EQ(CodeOf([&] { SessionHandle third(fixture.generator); }), ErrorCode::kBusy);
    const Request request = Ask(3, {1});
    EXPECT_EQ(CodeOf([&] { fixture.generator.Generate({&request, 1}, {}); }), ErrorCode::kBusy);
  }
  EXPECT_EQ(fixture.generator.free_rows(), 1);
  first.Append(Tokens{1, 2});
  first.Close();
  first.Close();
  EXPECT_EQ(CodeOf([&] { first.Append(Tokens{1}); }), ErrorCode::kUsage);
  SessionHandle again(fixture.generator);
  EXPECT_EQ(again.Length(), 0);
}

TEST(SessionHandle, RewindsAndResets) {
  Fixture fixture(1);
  SessionHandle session(fixture.generator);
  const Tokens prompt = MakePrompt(9, 2);
  const Tokens once = session.Generate(Ask(30, prompt), {}).token_ids;
  session.Rewind(30);
  EXPECT_EQ(session.Generate(Ask(30), {}).token_ids, once);
  session.Reset();
  EXPECT_EQ(session.Length(), 0);
  EXPECT_EQ(CodeOf([&] { session.Generate(Ask(3), {}); }), ErrorCode::kUsage);
  EXPECT_EQ(session.Generate(Ask(30, prompt), {}).token_ids, once);
}

TEST(SessionHandle, ForkGoesItsOwnWay) {
  Fixture fixture(2);
  SessionHandle session(fixture.generator);
  const Tokens prompt = MakePrompt(30, 2);
  Tokens text = session.Generate(Ask(20, prompt), {}).token_ids;
  text.insert(text.begin(), prompt.begin(), prompt.end());
  const int runs = fixture.seen.runs;
  const std::unique_ptr<SessionHandle> fork = session.Fork();
  EXPECT_EQ(fork->Tokens(), text);
  Tokens other = text;
  other.push_back(3);
  EXPECT_EQ(fork->Generate(Ask(15, {3}), {}).token_ids, Continuation(other, 15));
  EXPECT_LE(fixture.seen.runs, runs + 15);
  EXPECT_EQ(session.Generate(Ask(15), {}).token_ids, Continuation(text, 15));
  EXPECT_EQ(fixture.seen.broken_texts, 0);
  EXPECT_EQ(CodeOf([&] { session.Fork(); }), ErrorCode::kBusy);
}

TEST(SessionHandle, RefusedRequestChangesNothing) {
  Fixture fixture(1);
  SessionHandle session(fixture.generator);
  session.Append(Tokens{1, 2, 3});
  EXPECT_EQ(CodeOf([&] { session.Generate(Ask(1000, {4}), {}); }), ErrorCode::kCapacity);
  EXPECT_EQ(session.Length(), 3);
}

TEST(SessionHandle, CancelsFromAnotherThread) {
  Fixture fixture(1);
  SessionHandle session(fixture.generator);
  Hooks hooks;
  hooks.on_tokens = [&](std::size_t, std::span<const TokenId>) {
    std::thread([&] { session.Cancel(); }).join();
    return true;
  };
  const Result result = session.Generate(Ask(50, MakePrompt(5, 1)), hooks);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.token_ids.size(), 1U);
  EXPECT_EQ(session.Generate(Ask(5), {}).finish_reason, FinishReason::kLength);
}

TEST(SessionHandle, ThreadsTakeTurns) {
  Fixture fixture(3);
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      SessionHandle session(fixture.generator);
      const Tokens prompt = MakePrompt(10 + i, i);
      Tokens text;
      for (int turn = 0; turn < 10; ++turn) {
        const Tokens more = session.Generate(Ask(5, turn == 0 ? prompt : Tokens()), {}).token_ids;
        text.insert(text.end(), more.begin(), more.end());
      }
      if (text == Continuation(prompt, 50)) ++right;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 3);
}

}  // namespace
}  // namespace ptgc
