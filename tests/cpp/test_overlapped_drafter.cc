#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "drafters/model_drafter.h"
#include "drafters/overlapped_drafter.h"
#include "generator_fixture.h"
#include "serving/session_handle.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

LoadOptions Overlapping() {
  LoadOptions load;
  load.overlap = true;
  load.draft_length = DraftLengthMode::kFixed;
  return load;
}

// A model that errs at every seventh position.
FixtureOptions Options(int batch, int num_draft_tokens) {
  return {.batch = batch,
          .drafter = OverlapPlan(num_draft_tokens),
          .load = Overlapping(),
          .wrong_every = 7};
}

Tokens FirstOf(const Tokens& tokens, int count) { return {tokens.begin(), tokens.begin() + count}; }

TEST(OverlappedDrafter, TextsAreThoseOfTheTarget) {
  for (const int batch : {1, 4}) {
    for (const int drafts : {1, 2, 3, 5}) {
      GeneratorFixture fixture(Options(batch, drafts));
      std::vector<Request> requests;
      for (int i = 0; i < 7; ++i) requests.push_back(Ask(40, MakePrompt(1 + 11 * i, i)));
      std::int64_t made = 0, used = 0;
      const std::vector<Result> results = fixture.generator.Generate(requests, {});
      for (std::size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(results[i].token_ids, Continuation(requests[i].prompt_ids, 40));
        made += results[i].statistics.ahead_tokens;
        used += results[i].statistics.ahead_used_tokens;
      }
      EXPECT_GT(made, used);
      EXPECT_GT(used, 20) << drafts;
      EXPECT_EQ(fixture.seen.broken_texts + fixture.drafter_seen.broken_texts, 0);
      EXPECT_EQ(fixture.drafter_seen.out_of_bounds, 0);
    }
  }
}

// Whatever is drafted ahead, the next round drafts the same.
TEST(OverlappedDrafter, DraftsAreThoseThatAreMadeInTurns) {
  for (const AcceptanceRule rule :
       {AcceptanceRule::kMatch, AcceptanceRule::kSpeculative, AcceptanceRule::kBlock}) {
    std::vector<Result> results;
    for (const bool overlap : {false, true}) {
      FixtureOptions options = Options(2, 2);
      options.load.overlap = overlap;
      options.load.acceptance = rule;
      GeneratorFixture fixture(std::move(options));
      for (int seed = 0; seed < 20; ++seed) {
        Request request = Ask(60, MakePrompt(5 + seed, seed));
        request.trace = true;
        request.sampling.temperature = 0.6;
        request.sampling.repetition_penalty = seed % 2 == 0 ? 1 : 1.2;
        request.sampling.seed = static_cast<std::uint64_t>(seed);
        results.push_back(fixture.generator.Generate({&request, 1}, {}).front());
      }
    }
    std::int64_t used = 0;
    for (std::size_t i = 0; i < 20; ++i) {
      const Result &in_turns = results[i], &ahead = results[i + 20];
      EXPECT_EQ(ahead.token_ids, in_turns.token_ids);
      ASSERT_EQ(ahead.trace.size(), in_turns.trace.size());
      for (std::size_t round = 0; round < ahead.trace.size(); ++round) {
        EXPECT_EQ(ahead.trace[round].drafted_ids, in_turns.trace[round].drafted_ids);
      }
      EXPECT_EQ(in_turns.statistics.ahead_tokens, 0);
      used += ahead.statistics.ahead_used_tokens;
    }
    EXPECT_GT(used, 100);
  }
}

// The next round after a hit runs the drafter only for what is drafted ahead: nobody waits for it.
TEST(OverlappedDrafter, DraftsMadeAheadAreNotMadeAgain) {
  const std::thread::id self = std::this_thread::get_id();
  std::atomic<int> own_runs = 0, other_runs = 0;
  FixtureOptions options = Options(1, 1);
  options.wrong_every = 1000;
  options.before_draft = [&] { ++(std::this_thread::get_id() == self ? own_runs : other_runs); };
  GeneratorFixture fixture(std::move(options));
  const Request request = Ask(41, MakePrompt(9, 1));
  const Result result = fixture.generator.Generate({&request, 1}, {}).front();
  EXPECT_EQ(result.token_ids, Continuation(request.prompt_ids, 41));
  EXPECT_EQ(own_runs, 1);
  EXPECT_GE(other_runs, 36);
  EXPECT_LE(result.statistics.plain_rounds, 1);  // The last one, for a single token.
}

TEST(OverlappedDrafter, SessionsAreRewoundContinuedAndForked) {
  GeneratorFixture fixture(Options(3, 2));
  SessionHandle session(fixture.generator);
  Tokens text = MakePrompt(20, 3);
  session.Append(text);
  for (int turn = 0; turn < 12; ++turn) {
    const int count = 5 + turn % 3;
    const Tokens expected = Continuation(text, count);
    Request request = Ask(count);
    request.plain = turn % 4 == 3;
    if (turn % 3 == 1) request.eos_token_ids = {expected[2]};
    const Tokens written = session.Generate(request, {}).token_ids;
    EXPECT_EQ(written, FirstOf(expected, static_cast<int>(written.size())));
    text.insert(text.end(), written.begin(), written.end());
    const auto fork = session.Fork();
    EXPECT_EQ(fork->Generate(Ask(6), {}).token_ids, Continuation(text, 6));
    if (turn % 2 == 0) {
      session.Rewind(turn % 5);
      text.resize(text.size() - static_cast<std::size_t>(turn % 5));
    } else {
      const Tokens more = MakePrompt(turn % 4, turn);
      session.Append(more);
      text.insert(text.end(), more.begin(), more.end());
    }
  }
  EXPECT_EQ(fixture.drafter_seen.broken_texts, 0);
}

TEST(OverlappedDrafter, TextIsCancelledWhileTheNextIsDrafted) {
  const std::thread::id self = std::this_thread::get_id();
  std::atomic<int> runs = 0;
  SessionHandle* cancelled = nullptr;
  FixtureOptions options = Options(1, 2);
  options.before_draft = [&] {
    if (std::this_thread::get_id() != self && ++runs == 8) cancelled->Cancel();
  };
  GeneratorFixture fixture(std::move(options));
  SessionHandle session(fixture.generator);
  cancelled = &session;
  Tokens text = MakePrompt(7, 2);
  session.Append(text);
  const Result result = session.Generate(Ask(60), {});
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.token_ids,
            FirstOf(Continuation(text, 60), static_cast<int>(result.token_ids.size())));
  text.insert(text.end(), result.token_ids.begin(), result.token_ids.end());
  EXPECT_EQ(session.Generate(Ask(30), {}).token_ids, Continuation(text, 30));
}

// Either side may fail; the other is waited for, and the session goes on.
TEST(OverlappedDrafter, FailuresEndTheRoundAndNotTheSession) {
  const std::thread::id self = std::this_thread::get_id();
  for (const bool target_fails : {false, true}) {
    std::atomic<int> runs = 0;
    FixtureOptions options = Options(1, 2);
    const auto fail = [&runs] {
      if (++runs == 6) throw std::runtime_error("broken");
    };
    if (target_fails) {
      options.before_run = fail;
    } else {
      options.before_draft = [fail, self] {
        if (std::this_thread::get_id() != self) fail();
      };
    }
    GeneratorFixture fixture(std::move(options));
    SessionHandle session(fixture.generator);
    const Tokens prompt = MakePrompt(7, 2);
    session.Append(prompt);
    EXPECT_THROW(session.Generate(Ask(60), {}), std::runtime_error);
    const Tokens text = session.Tokens();
    EXPECT_GT(text.size(), prompt.size());
    EXPECT_EQ(session.Generate(Ask(30), {}).token_ids, Continuation(text, 30));
    EXPECT_EQ(fixture.drafter_seen.broken_texts, 0);
  }
}

// Where the text repeats itself it is looked up, elsewhere drafted, ahead where the model drafts.
TEST(OverlappedDrafter, IsMergedWithALookup) {
  FixtureOptions options = Options(2, 2);
  options.drafter = MergedPlan({NgramPlan(), OverlapPlan(2)});
  GeneratorFixture fixture(std::move(options));
  std::set<int> parts;
  std::int64_t used = 0;
  for (int seed = 0; seed < 6; ++seed) {
    Request request = Ask(60, MakePrompt(8, seed));
    request.trace = true;
    const Result result = fixture.generator.Generate({&request, 1}, {}).front();
    EXPECT_EQ(result.token_ids, Continuation(request.prompt_ids, 60));
    for (const TraceRound& round : result.trace) parts.insert(round.part);
    used += result.statistics.ahead_used_tokens;
  }
  EXPECT_EQ(parts, (std::set<int>{0, 1}));
  EXPECT_GT(used, 0);
  EXPECT_EQ(fixture.drafter_seen.broken_texts, 0);
}

TEST(OverlappedDrafter, IsRefusedWhereTheBundleDoesNotAllowIt) {
  FixtureOptions options = Options(1, 2);
  options.drafter = ModelPlan(2);
  EXPECT_EQ(CodeOf([&] { GeneratorFixture fixture(std::move(options)); }), ErrorCode::kUsage);
}

}  // namespace
}  // namespace ptgc
