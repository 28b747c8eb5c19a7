// Whole texts over captured engines: those of the host, with one launch and one wait a round.
#include <gtest/gtest.h>

#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "counted_new.h"
#include "engines/gpu/captured_engine.h"
#include "function_engine.h"
#include "generator_fixture.h"
#include "serving/generation.h"
#include "serving/session_handle.h"
#include "substitute_gpu.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

DrafterPlan PlanOf(std::string_view kind) {
  if (kind == "ngram") return NgramPlan();
  return kind == "model" ? ModelPlan(4) : DrafterPlan();
}

// The made-up language's engines, compiled for a substitute GPU: one engine a role with all shapes.
struct OnDevice {
  explicit OnDevice(int batch, const DrafterPlan& drafter, bool in_place = true) {
    gpu.in_place = in_place;
    bundle = SubstituteBundle(batch, drafter);
    engines = SubstituteEngines(seen, drafter.kind == "model" ? &drafter_seen : nullptr);
    const std::shared_ptr<GpuShare> share = MakeSubstituteShare(gpu);
    for (auto& [role, engine] : engines) {
      const std::vector<NamedPort> ports = CausalGpuPorts(bundle, role, false);
      auto captured = std::make_unique<CapturedEngine>(
          share, MakeSubstituteProgram(gpu, std::move(engine), ports), role + ".engine", in_place);
      if (role == "target") target = captured.get();
      engine = std::move(captured);
    }
  }

  SubstituteGpu gpu;
  Observations seen;
  Observations drafter_seen;
  Bundle bundle;
  Engines engines;
  CapturedEngine* target = nullptr;
};

// Prompts of several lengths; texts outgrow the smaller cache, some are drawn.
std::vector<Request> MakeRequests() {
  std::vector<Request> requests;
  for (int i = 0; i < 7; ++i) {
    Request request = Ask(20 + i * 12, MakePrompt(2 + i * 5, i));
    request.plain = i == 2;
    if (i % 3 == 1) {
      request.sampling.temperature = 0.8;
      request.sampling.seed = static_cast<std::uint64_t>(i);
    }
    requests.push_back(request);
  }
  return requests;
}

class CapturedGenerator : public testing::TestWithParam<std::tuple<int, std::string_view>> {};

TEST_P(CapturedGenerator, WritesTheTextsOfTheHost) {
  const auto [batch, kind] = GetParam();
  const DrafterPlan drafter = PlanOf(kind);
  GeneratorFixture host({.batch = batch, .drafter = drafter});
  OnDevice device(batch, drafter);
  Generator generator(device.bundle, std::move(device.engines), {});
  const std::vector<Request> requests = MakeRequests();
  const std::vector<Result> expected = host.generator.Generate(requests, {});
  const std::vector<Result> results = generator.Generate(requests, {});
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(results[i].token_ids, expected[i].token_ids) << i;
    EXPECT_EQ(results[i].statistics.accepted_tokens, expected[i].statistics.accepted_tokens);
  }
  EXPECT_EQ(device.seen.broken_texts, 0);
  EXPECT_EQ(device.seen.out_of_bounds, 0);
  EXPECT_EQ(device.target->counters()->fallbacks, 0);
  EXPECT_GT(device.gpu.copies_within, 0);
  EXPECT_EQ(device.gpu.violations, 0);
  generator.Close();
  EXPECT_EQ(device.gpu.live_blocks, 0);
  EXPECT_EQ(device.gpu.live_pins, 0);
  EXPECT_EQ(device.gpu.live_contexts, 0);
  EXPECT_EQ(device.gpu.violations, 0);
}

TEST_P(CapturedGenerator, EveryEngineRunIsOneLaunchAndAtMostOneWait) {
  const auto [batch, kind] = GetParam();
  OnDevice device(batch, PlanOf(kind));
  Generator generator(device.bundle, std::move(device.engines), {});
  const std::vector<Request> requests = MakeRequests();
  generator.Generate(requests, {});  // Binds and captures every shape.
  const SubstituteGpu before = device.gpu;
  const std::vector<Result> results = generator.Generate(requests, {});
  const int rounds = device.gpu.runs - before.runs;
  EXPECT_GT(rounds, 100);
  EXPECT_EQ(device.gpu.launches - before.launches, rounds);
  const int waits = device.gpu.synchronisations - before.synchronisations;
  EXPECT_LE(waits, rounds);
  EXPECT_EQ(waits < rounds, kind == "model");
  EXPECT_EQ(device.gpu.captures, before.captures);
}

// Drafts stay on the device until the target has judged them. The first round with drafts may find
// a whole text that the drafter has not read; it is prefill where the prompt is short.
TEST_P(CapturedGenerator, LikeliestDraftsAreVerifiedBeforeAnybodyWaits) {
  const auto [batch, kind] = GetParam();
  OnDevice device(batch, PlanOf(kind));
  Generator generator(device.bundle, std::move(device.engines), {});
  std::vector<Request> requests;
  for (int i = 0; i < batch; ++i) requests.push_back(Ask(60, MakePrompt(7, i)));
  generator.Generate(requests, {});  // Binds and captures every shape.
  for (const Result& result : generator.Generate(requests, {})) {
    EXPECT_GT(result.statistics.rounds, 10);
    EXPECT_EQ(result.statistics.synchronisations, result.statistics.rounds);
    EXPECT_EQ(result.statistics.uncaptured_runs, 0);
    if (kind == "model") {
      EXPECT_GT(result.statistics.graph_launches, 2 * result.statistics.rounds);
    }
  }
  EXPECT_EQ(device.gpu.violations, 0);
}

// Engines of the portable lowering: the substitute counts it as a violation if a cache comes in and
// goes out at one address.
TEST_P(CapturedGenerator, WritesTheSameTextsWithCachesThatAreNotUpdatedInPlace) {
  const auto [batch, kind] = GetParam();
  const DrafterPlan drafter = PlanOf(kind);
  GeneratorFixture host({.batch = batch, .drafter = drafter});
  OnDevice device(batch, drafter, /*in_place=*/false);
  Generator generator(device.bundle, std::move(device.engines), {});
  const std::vector<Request> requests = MakeRequests();
  const std::vector<Result> expected = host.generator.Generate(requests, {});
  generator.Generate(requests, {});  // Binds and captures every shape.
  const SubstituteGpu before = device.gpu;
  const std::vector<Result> results = generator.Generate(requests, {});
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(results[i].token_ids, expected[i].token_ids) << i;
  }
  EXPECT_EQ(device.seen.broken_texts, 0);
  const int runs = device.gpu.runs - before.runs;
  const int waits = device.gpu.synchronisations - before.synchronisations;
  EXPECT_EQ(device.gpu.launches - before.launches, runs);
  EXPECT_LE(waits, runs);
  EXPECT_EQ(waits < runs, kind == "model");
  EXPECT_EQ(device.gpu.violations, 0);
  generator.Close();
  EXPECT_EQ(device.gpu.live_blocks, 0);
}

INSTANTIATE_TEST_SUITE_P(BatchesAndDrafters, CapturedGenerator,
                         testing::Combine(testing::Values(1, 2, 3),
                                          testing::Values("none", "ngram", "model")));

TEST(CapturedGenerators, SessionsForkAndRewindOnTheDevice) {
  OnDevice device(2, NgramPlan());
  Generator generator(device.bundle, std::move(device.engines), {});
  SessionHandle session(generator);
  const Tokens prompt = MakePrompt(9, 5);
  const Tokens text = Continuation(prompt, 80);
  EXPECT_EQ(session.Generate(Ask(60, prompt), {}).token_ids,
            Tokens(text.begin(), text.begin() + 60));
  session.Rewind(20);
  const std::unique_ptr<SessionHandle> fork = session.Fork();
  EXPECT_EQ(fork->Generate(Ask(40), {}).token_ids, Tokens(text.begin() + 40, text.end()));
  EXPECT_EQ(session.Generate(Ask(30), {}).token_ids, Tokens(text.begin() + 40, text.begin() + 70));
  EXPECT_EQ(device.seen.broken_texts, 0);
  EXPECT_EQ(device.gpu.violations, 0);
}

class SteadyRounds : public testing::TestWithParam<std::string_view> {};

TEST_P(SteadyRounds, AllocateNothing) {
  constexpr std::size_t kBatch = 2;
  OnDevice device(kBatch, PlanOf(GetParam()));
  const SessionLimits limits{device.bundle.shapes.max_length, device.bundle.model.context_length,
                             kVocabSize};
  Session first(0, limits), second(1, limits);
  Session* const sessions[] = {&first, &second};
  const std::unique_ptr<DecodeLoop> loop =
      MakeLoop(device.bundle, std::move(device.engines), {}, sessions);
  const auto write = [&](int rounds) {
    std::vector<Request> requests(kBatch, Ask(100, {1, 2, 3}));
    std::vector<Generation> generations;
    for (std::size_t i = 0; i < kBatch; ++i) {
      sessions[i]->Reset();
      loop->Begin(*sessions[i]);
      generations.emplace_back(requests[i], Clock::now());
      generations.back().Start(*sessions[i], *loop);
    }
    std::vector<Turn> turns(kBatch);
    long before = 0;
    for (int round = 0; round < rounds; ++round) {
      if (round == 1) before = NumAllocations();
      for (std::size_t i = 0; i < kBatch; ++i) turns[i] = generations[i].NextTurn();
      const RoundReport report = loop->Round(turns);
      for (std::size_t i = 0; i < kBatch; ++i) generations[i].Record(turns[i], report);
    }
    return NumAllocations() - before;
  };
  EXPECT_GT(write(13), 0);  // Binds the shapes.
  EXPECT_EQ(write(13), 0);
  EXPECT_EQ(device.gpu.violations, 0);
}

INSTANTIATE_TEST_SUITE_P(CapturedGenerators, SteadyRounds, testing::Values("ngram", "model"));

// What a decoder attends to lies on the device; sources and masks come from the host.
TEST(CapturedGenerators, EncoderAndDecoderShareTheDevice) {
  SubstituteGpu gpu;
  Observations seen;
  Bundle bundle = SubstituteBundle(2, NgramPlan());
  LayerState cross;
  cross.kind = StateKind::kCross;
  cross.kv_heads = 1;
  cross.head_dim = 1;
  bundle.roles.at("target").cross_states = {cross};
  bundle.roles["encoder"] = {};
  bundle.shapes.roles["encoder"].source_lengths = {8};
  bundle.model.start_token_id = 3;
  Engines engines;
  engines["target"] = std::make_unique<SubstituteEngine>(seen);
  engines["encoder"] = MakeEngine([](const BoundPorts& ports) {
    for (const char* name : {"present.0.encoder.key", "present.0.encoder.value"}) {
      ports.Row<float>(name, 0)[0] = static_cast<float>(ports.Row<TokenId>("input_ids", 0)[0]);
    }
  });
  Generator generator(bundle, OnGpu(gpu, std::move(engines)), {});
  const std::vector<Request> requests = {Ask(30, {1, 2}), Ask(40, {4}), Ask(20, {5, 6, 7})};
  for (const Result& result : generator.Generate(requests, {})) {
    EXPECT_EQ(result.token_ids, Continuation({3}, static_cast<int>(result.token_ids.size())));
    EXPECT_GE(result.token_ids.size(), 20U);
  }
  EXPECT_EQ(seen.broken_texts, 0);
  generator.Close();
  EXPECT_EQ(gpu.live_blocks, 0);
  EXPECT_EQ(gpu.live_pins, 0);
  EXPECT_EQ(gpu.violations, 0);
}

TEST(CapturedGenerators, RoundThatFailsIsAnErrorAndTheNextTextIsRight) {
  OnDevice device(1, NgramPlan());
  Generator generator(device.bundle, std::move(device.engines), {});
  const Request request = Ask(30, MakePrompt(6, 1));
  generator.Generate({&request, 1}, {});
  device.gpu.faults.launching = true;
  EXPECT_EQ(CodeOf([&] { generator.Generate({&request, 1}, {}); }), ErrorCode::kBackend);
  device.gpu.faults.launching = false;
  EXPECT_EQ(generator.Generate({&request, 1}, {})[0].token_ids,
            Continuation(request.prompt_ids, 30));
}

TEST(CapturedGenerators, BuildThatDoesNotFitTheDeviceIsRefusedWhileItLoads) {
  OnDevice device(2, NgramPlan());
  device.gpu.faults.allocations_left = 2;
  EXPECT_EQ(CodeOf([&] { Generator(device.bundle, std::move(device.engines), {}); }),
            ErrorCode::kCapacity);
  EXPECT_EQ(device.gpu.live_blocks, 0);
}

}  // namespace
}  // namespace ptgc
