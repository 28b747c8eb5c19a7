#include <gtest/gtest.h>

#include <stdexcept>

#include "generator_fixture.h"
#include "serving/session_handle.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

struct Fixture {
  explicit Fixture(int batch, const GeneratorOptions& options = {},
                   const DrafterPlan& drafter = NgramPlan())
      : generator(SubstituteBundle(batch, drafter),
                  SubstituteEngines(seen, drafter.kind == "model" ? &drafter_seen : nullptr),
                  options) {}
  Observations seen;
  Observations drafter_seen;
  Generator generator;
};

Request MakeRequest(const Tokens& prompt, int max_new_tokens) {
  return Ask(max_new_tokens, prompt);
}

class Generators : public testing::TestWithParam<int> {};

TEST_P(Generators, RowsAreRefilledUntilAllIsWritten) {
  Fixture fixture(GetParam());
  std::vector<Request> requests;
  for (int i = 0; i < 8; ++i) requests.push_back(MakeRequest(MakePrompt(2 + i * 6, i), 10 + i * 5));
  const std::vector<Result> results = fixture.generator.Generate(requests, {});
  ASSERT_EQ(results.size(), 8U);
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(results[i].token_ids,
              Continuation(requests[i].prompt_ids, requests[i].max_new_tokens));
    EXPECT_EQ(results[i].finish_reason, FinishReason::kLength);
  }
  EXPECT_EQ(fixture.seen.broken_texts, 0);
  EXPECT_EQ(fixture.seen.out_of_bounds, 0);
  EXPECT_EQ(fixture.generator.free_rows(), GetParam());
}

TEST_P(Generators, FullLengthFits) {
  Fixture fixture(GetParam());
  const Tokens prompt = MakePrompt(100, 1);
  const std::vector<Request> requests = {MakeRequest(prompt, 28),
                                         MakeRequest(MakePrompt(1, 2), 127)};
  const std::vector<Result> results = fixture.generator.Generate(requests, {});
  EXPECT_EQ(results[0].token_ids, Continuation(prompt, 28));
  EXPECT_EQ(results[1].token_ids, Continuation(MakePrompt(1, 2), 127));
  EXPECT_EQ(fixture.seen.out_of_bounds, 0);
}

INSTANTIATE_TEST_SUITE_P(Batches, Generators, testing::Values(1, 3));

TEST(Generator, StatisticsAddUp) {
  Fixture fixture(1);
  Request request = MakeRequest(MakePrompt(40, 1), 60);
  request.trace = true;
  const Result result = fixture.generator.Generate({&request, 1}, {})[0];
  const Statistics& statistics = result.statistics;
  EXPECT_EQ(statistics.prompt_tokens, 40);
  EXPECT_EQ(statistics.new_tokens, 60);
  EXPECT_EQ(statistics.new_tokens - 1, statistics.rounds + statistics.accepted_tokens);
  const auto first = std::find_if(result.trace.begin(), result.trace.end(),
                                  [](const auto& round) { return !round.emitted_ids.empty(); });
  EXPECT_DOUBLE_EQ(
      statistics.mean_accept_length,
      static_cast<double>(60 - first->emitted_ids.size()) / static_cast<double>(statistics.rounds));
  EXPECT_GT(statistics.drafted_tokens, statistics.accepted_tokens);
  EXPECT_LE(statistics.engine_seconds, statistics.decode_seconds);
  EXPECT_LE(statistics.draft_seconds + statistics.accept_seconds + statistics.commit_seconds,
            statistics.decode_seconds);
  EXPECT_FALSE(statistics.fallback_reason.has_value());
  Tokens emitted;
  for (const TraceRound& round : result.trace) {
    emitted.insert(emitted.end(), round.emitted_ids.begin(), round.emitted_ids.end());
  }
  EXPECT_EQ(emitted, result.token_ids);
  EXPECT_EQ(static_cast<std::int64_t>(result.trace.size()), statistics.rounds + 3);
}

// A chain tries a depth as often as it has accepted the one before.
TEST(Generator, DraftsAreCountedByDepth) {
  Fixture fixture(1);
  Request request = MakeRequest(MakePrompt(40, 1), 60);
  request.trace = true;
  const Result result = fixture.generator.Generate({&request, 1}, {})[0];
  std::vector<std::int64_t> tried(8), accepted(8);
  for (const TraceRound& round : result.trace) {
    ASSERT_EQ(round.parents.size(), round.drafted_ids.size());
    for (std::size_t node = 1; node <= round.drafted_ids.size(); ++node) {
      EXPECT_EQ(round.parents[node - 1], static_cast<int>(node) - 1);
      tried[node] += node <= static_cast<std::size_t>(round.accepted) + 1 ? 1 : 0;
      accepted[node] += node <= static_cast<std::size_t>(round.accepted) ? 1 : 0;
    }
  }
  ASSERT_FALSE(result.statistics.draft_counts.empty());
  std::int64_t all = 0;
  for (const DraftCount& count : result.statistics.draft_counts) {
    EXPECT_EQ(count.rank, 0);
    EXPECT_EQ(count.tried, tried[static_cast<std::size_t>(count.depth)]);
    EXPECT_EQ(count.accepted, accepted[static_cast<std::size_t>(count.depth)]);
    all += count.accepted;
  }
  EXPECT_EQ(all, result.statistics.accepted_tokens);
}

TEST(Generator, PlainRequestDraftsNothing) {
  Fixture fixture(1);
  Request request = MakeRequest(MakePrompt(5, 1), 30);
  request.plain = true;
  const Result result = fixture.generator.Generate({&request, 1}, {})[0];
  EXPECT_EQ(result.token_ids, Continuation(request.prompt_ids, 30));
  EXPECT_EQ(result.statistics.drafted_tokens, 0);
  EXPECT_EQ(result.statistics.rounds, 29);
  EXPECT_EQ(result.statistics.plain_rounds, 29);
}

TEST(Generator, SaysWhenSpeculationDoesNotPay) {
  GeneratorOptions options;
  options.load.costs["target"] = {{1, 1.0}, {2, 100.0}};
  Fixture fixture(1, options);
  const Request request = MakeRequest(MakePrompt(5, 1), 30);
  const Result result = fixture.generator.Generate({&request, 1}, {})[0];
  EXPECT_EQ(result.token_ids, Continuation(request.prompt_ids, 30));
  EXPECT_EQ(result.statistics.plain_rounds, result.statistics.rounds);
  EXPECT_EQ(result.statistics.fallback_reason, "speculation does not pay here");
}

TEST(Generator, DraftTokensCanBeFewerThanPlanned) {
  GeneratorOptions options;
  options.load.num_draft_tokens = 0;
  Fixture fixture(1, options);
  const Request request = MakeRequest(MakePrompt(5, 1), 10);
  EXPECT_EQ(fixture.generator.Generate({&request, 1}, {})[0].statistics.drafted_tokens, 0);
  options.load.num_draft_tokens = 8;
  EXPECT_EQ(CodeOf([&] { Fixture(1, options); }), ErrorCode::kUsage);
}

TEST(Generator, EndTokenIsTheLast) {
  Fixture fixture(1);
  Request request = MakeRequest(MakePrompt(6, 3), 60);
  const Tokens text = Continuation(request.prompt_ids, 60);
  request.eos_token_ids = {text[30]};
  const Result result = fixture.generator.Generate({&request, 1}, {})[0];
  EXPECT_EQ(result.finish_reason, FinishReason::kEos);
  EXPECT_EQ(result.token_ids.back(), text[30]);
  EXPECT_EQ(result.token_ids, Tokens(text.begin(), text.begin() + result.statistics.new_tokens));
}

TEST(Generator, CallbackHearsAllTokensAndStops) {
  Fixture fixture(2);
  const std::vector<Request> requests = {MakeRequest(MakePrompt(6, 1), 40),
                                         MakeRequest(MakePrompt(6, 2), 40)};
  std::vector<Tokens> heard(2);
  Hooks hooks;
  hooks.on_tokens = [&](std::size_t index, std::span<const TokenId> tokens) {
    heard[index].insert(heard[index].end(), tokens.begin(), tokens.end());
    return index == 1 || heard[index].size() < 10;
  };
  const std::vector<Result> results = fixture.generator.Generate(requests, hooks);
  EXPECT_EQ(results[0].finish_reason, FinishReason::kStop);
  EXPECT_LT(results[0].token_ids.size(), 18U);
  EXPECT_EQ(results[1].finish_reason, FinishReason::kLength);
  EXPECT_EQ(heard[0], results[0].token_ids);
  EXPECT_EQ(heard[1], results[1].token_ids);
}

TEST(Generator, DeadlineEndsRunningAndWaitingTexts) {
  Fixture fixture(1);
  std::vector<Request> requests(2, MakeRequest(MakePrompt(6, 1), 60));
  for (Request& request : requests) request.deadline_seconds = 1e-9;
  for (const Result& result : fixture.generator.Generate(requests, {})) {
    EXPECT_EQ(result.finish_reason, FinishReason::kDeadline);
    EXPECT_TRUE(result.token_ids.empty());
    EXPECT_EQ(result.statistics.prompt_tokens, 6);
  }
}

TEST(Generator, ThrowingHookLeavesItUsable) {
  Fixture fixture(1);
  const Request request = MakeRequest(MakePrompt(6, 1), 20);
  Hooks hooks;
  hooks.poll = [] { throw std::runtime_error("interrupted"); };
  EXPECT_THROW(fixture.generator.Generate({&request, 1}, hooks), std::runtime_error);
  EXPECT_EQ(fixture.generator.free_rows(), 1);
  EXPECT_EQ(fixture.generator.Generate({&request, 1}, {})[0].token_ids,
            Continuation(request.prompt_ids, 20));
}

TEST(Generator, RefusesCallsFromItsOwnCallback) {
  Fixture fixture(2);
  const Request request = MakeRequest(MakePrompt(6, 1), 3);
  ErrorCode code = ErrorCode::kInternal;
  Hooks hooks;
  hooks.poll = [&] { code = CodeOf([&] { fixture.generator.Generate({&request, 1}, {}); }); };
  fixture.generator.Generate({&request, 1}, hooks);
  EXPECT_EQ(code, ErrorCode::kUsage);
}

TEST(Generator, ChecksEveryRequestBeforeAnyRuns) {
  Fixture fixture(2);
  std::vector<Request> requests(2, MakeRequest(MakePrompt(6, 1), 3));
  requests[1].prompt_ids.assign(129, 1);
  EXPECT_EQ(CodeOf([&] { fixture.generator.Generate(requests, {}); }), ErrorCode::kCapacity);
  requests[1] = MakeRequest(MakePrompt(6, 1), 123);
  EXPECT_EQ(CodeOf([&] { fixture.generator.Generate(requests, {}); }), ErrorCode::kCapacity);
  requests[1] = MakeRequest({}, 3);
  EXPECT_EQ(CodeOf([&] { fixture.generator.Generate(requests, {}); }), ErrorCode::kUsage);
  EXPECT_EQ(fixture.seen.runs, 0);
  EXPECT_TRUE(fixture.generator.Generate({}, {}).empty());
}

TEST(Generator, MeasuresEveryWidthAndKeepsItsRows) {
  Fixture fixture(2);
  EXPECT_EQ(fixture.generator.Measure({"target", 8, 8, 100, 3}).size(), 3U);
  EXPECT_EQ(fixture.generator.Measure({"target", 16, 1, 0, 2}).size(), 2U);
  EXPECT_EQ(CodeOf([&] { fixture.generator.Measure({"target", 3, 3, 0, 1}); }), ErrorCode::kUsage);
  EXPECT_EQ(CodeOf([&] { fixture.generator.Measure({"target", 8, 8, 129, 1}); }),
            ErrorCode::kUsage);
  const Request request = MakeRequest(MakePrompt(6, 1), 20);
  EXPECT_EQ(fixture.generator.Generate({&request, 1}, {})[0].token_ids,
            Continuation(request.prompt_ids, 20));
  SessionHandle session(fixture.generator);
  EXPECT_EQ(CodeOf([&] { fixture.generator.Measure({"target", 8, 8, 0, 1}); }), ErrorCode::kBusy);
}

class ModelDrafts : public testing::TestWithParam<int> {};

TEST_P(ModelDrafts, WriteThePlainText) {
  Fixture fixture(GetParam(), {}, ModelPlan(5));
  std::vector<Request> requests;
  for (int i = 0; i < 5; ++i) requests.push_back(MakeRequest(MakePrompt(2 + i * 11, i), 60));
  const std::vector<Result> results = fixture.generator.Generate(requests, {});
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(results[i].token_ids, Continuation(requests[i].prompt_ids, 60));
    EXPECT_GT(results[i].statistics.mean_accept_length, 1.5);
  }
  EXPECT_EQ(fixture.seen.broken_texts + fixture.drafter_seen.broken_texts, 0);
  EXPECT_EQ(fixture.seen.out_of_bounds + fixture.drafter_seen.out_of_bounds, 0);
}

// Rule match: a seed's text is the same with and without drafts, whatever the batch.
TEST_P(ModelDrafts, SampledTextIsThatOfPlainSampling) {
  for (const DrafterPlan& plan : {ModelPlan(5), NgramPlan()}) {
    Fixture fixture(GetParam(), {}, plan);
    std::vector<Request> requests;
    for (int i = 0; i < 4; ++i) {
      Request request = MakeRequest(MakePrompt(2 + i * 11, i), 50);
      request.sampling.temperature = 0.9;
      request.sampling.top_k = 12;
      request.sampling.repetition_penalty = 1.05;
      request.sampling.frequency_penalty = 0.1;
      request.sampling.seed = static_cast<std::uint64_t>(i);
      requests.push_back(request);
    }
    const std::vector<Result> drafted = fixture.generator.Generate(requests, {});
    std::int64_t accepted = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      requests[i].plain = true;
      Fixture alone(1, {}, plan);
      const Result plain = alone.generator.Generate({&requests[i], 1}, {})[0];
      EXPECT_EQ(drafted[i].token_ids, plain.token_ids);
      EXPECT_NE(plain.token_ids, Continuation(requests[i].prompt_ids, 50));
      accepted += drafted[i].statistics.accepted_tokens;
    }
    EXPECT_GT(accepted, 5);
  }
}

INSTANTIATE_TEST_SUITE_P(Batches, ModelDrafts, testing::Values(1, 3));

TEST(Generator, DraftsEndWithTheDraftersContext) {
  Observations seen;
  Observations drafter_seen;
  Bundle bundle = SubstituteBundle(1, ModelPlan(5));
  bundle.roles["drafter"].context_length = 30;
  Generator generator(std::move(bundle), SubstituteEngines(seen, &drafter_seen), {});
  Request request = MakeRequest(MakePrompt(6, 1), 60);
  request.trace = true;
  const Result result = generator.Generate({&request, 1}, {})[0];
  EXPECT_EQ(result.token_ids, Continuation(request.prompt_ids, 60));
  EXPECT_FALSE(result.trace.front().drafted_ids.empty());
  EXPECT_TRUE(result.trace.back().drafted_ids.empty());
}

// Logits may be padded to another size; the drafter reads and drafts what both know.
TEST(Generator, DrafterOfFewerIdsDraftsBehindThoseOnly) {
  Observations seen;
  Observations drafter_seen;
  Bundle bundle = SubstituteBundle(1, ModelPlan(5));
  bundle.roles["drafter"].vocab_size = kVocabSize - 1;
  Generator generator(std::move(bundle), SubstituteEngines(seen, &drafter_seen), {});
  const Request request = MakeRequest(Tokens{kVocabSize - 1, 2, 3}, 60);
  const Result result = generator.Generate({&request, 1}, {})[0];
  EXPECT_EQ(result.token_ids, Continuation(request.prompt_ids, 60));
  EXPECT_EQ(drafter_seen.runs, 0);
}

TEST(Generator, ClosedOneRefuses) {
  Fixture fixture(1);
  fixture.generator.Close();
  const Request request = MakeRequest(MakePrompt(6, 1), 20);
  EXPECT_EQ(CodeOf([&] { fixture.generator.Generate({&request, 1}, {}); }), ErrorCode::kUsage);
}

}  // namespace
}  // namespace ptgc
