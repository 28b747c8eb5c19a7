#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/error.h"
#include "engines/gpu/captured_engine.h"
#include "function_engine.h"
#include "generator_fixture.h"
#include "substitute_gpu.h"

namespace ptgc {
namespace {

constexpr std::int64_t kMost = 8;

// `sums` adds `numbers` to a state and gives the result; `unread` is the sum of them.
void AddNumbers(const BoundPorts& ports) {
  const auto numbers = ports.Row<const std::int64_t>("numbers", 0);
  const auto state = ports.Row<std::int64_t>("state", 0);
  const auto sums = ports.Row<std::int64_t>("sums", 0);
  std::int64_t total = 0;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    state[i] += numbers[i];
    sums[i] = state[i];
    total += numbers[i];
  }
  ports.Row<std::int64_t>("unread", 0)[0] = total;
}

// The same, by an engine that leaves the state alone and gives another.
void AddNumbersAside(const BoundPorts& ports) {
  const auto state = ports.Row<const std::int64_t>("state", 0);
  const auto next = ports.Row<std::int64_t>("state_out", 0);
  for (std::size_t i = 0; i < state.size(); ++i) next[i] = -1;  // Reading state now is too late.
  const auto numbers = ports.Row<const std::int64_t>("numbers", 0);
  const auto sums = ports.Row<std::int64_t>("sums", 0);
  for (std::size_t i = 0; i < state.size(); ++i) {
    next[i] = state[i] + (i < numbers.size() ? numbers[i] : 0);
    if (i < sums.size()) sums[i] = next[i];
  }
}

struct Fixture {
  explicit Fixture(bool in_place = true)
      : numbers(kMost * 8), sums(kMost * 8), state(share->memory(), kMost * 8) {
    const std::vector<NamedPort> ports = {
        MakePort("numbers", DType::kInt64, true, {1, kMost}, {"", "count"}),
        MakePort("state", DType::kInt64, true, {1, kMost}, {"", ""}),
        MakePort("sums", DType::kInt64, false, {1, kMost}, {"", "count"}),
        MakePort("state_out", DType::kInt64, false, {1, kMost}, {"", ""}),
        MakePort("unread", DType::kInt64, false, {1, 1}, {"", ""}),
    };
    gpu.in_place = in_place;
    engine = std::make_unique<CapturedEngine>(
        share,
        MakeSubstituteProgram(gpu, MakeEngine(in_place ? AddNumbers : AddNumbersAside), ports),
        "sums.engine", in_place);
  }

  std::vector<Tensor> Inputs(std::int64_t count) const {
    return {PortOf(numbers, "numbers", DType::kInt64, {1, count}),
            {"state", DType::kInt64, state.data(), {1, kMost}},
            {"not_of_this_graph", DType::kInt64, nullptr, {1}}};
  }
  std::vector<Tensor> Outputs(std::int64_t count) const {
    return {PortOf(sums, "sums", DType::kInt64, {1, count}),
            {"state_out", DType::kInt64, state.data(), {1, kMost}}};
  }
  std::unique_ptr<Call> Bind(std::int64_t count) {
    return engine->Bind(Inputs(count), Outputs(count));
  }
  // The sums after one more run with all numbers `number`.
  std::int64_t Run(Call& call, std::int64_t number, std::size_t at = 0) {
    std::fill_n(numbers.As<std::int64_t>(), kMost, number);
    call.Run();
    return sums.As<std::int64_t>()[at];
  }
  // What Bind says of these tensors.
  std::string Refusal(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs) {
    try {
      engine->Bind(inputs, outputs);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBackend);
      EXPECT_FALSE(error.action().empty());
      return error.message();
    }
    return "nothing was thrown";
  }
  std::string FailureOfRun(Call& call) {
    try {
      call.Run();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBackend);
      EXPECT_NE(error.action().find("nvidia-smi"), std::string::npos);
      return error.message();
    }
    return "nothing was thrown";
  }

  SubstituteGpu gpu;
  std::shared_ptr<GpuShare> share = MakeSubstituteShare(gpu);
  Buffer numbers;
  Buffer sums;
  Block state;
  std::unique_ptr<CapturedEngine> engine;
};

bool Says(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

TEST(CapturedEngine, EveryRunAfterTheFirstIsOneLaunchAndOneWait) {
  Fixture fixture;
  const std::unique_ptr<Call> call = fixture.Bind(3);
  EXPECT_EQ(fixture.Run(*call, 5), 5);
  EXPECT_EQ(fixture.gpu.runs, 1);
  EXPECT_EQ(fixture.engine->counters()->uncaptured_runs, 1);
  const int waits = fixture.gpu.synchronisations;
  EXPECT_EQ(fixture.Run(*call, 2), 7);
  EXPECT_EQ(fixture.Run(*call, 3, 2), 10);
  EXPECT_EQ(fixture.gpu.launches, 2);
  EXPECT_EQ(fixture.gpu.synchronisations, waits + 2);
  EXPECT_EQ(fixture.gpu.runs, 3);
  const DeviceCounters& counters = *fixture.engine->counters();
  EXPECT_EQ(counters.graph_launches, 2);
  EXPECT_EQ(counters.synchronisations, 3);
  EXPECT_EQ(counters.captures, 1);
  EXPECT_EQ(counters.fallbacks, 0);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

TEST(CapturedEngine, EveryShapePointHasItsGraphAndAllShareTheState) {
  Fixture fixture;
  const std::unique_ptr<Call> narrow = fixture.Bind(1);
  const std::unique_ptr<Call> wide = fixture.Bind(8);
  EXPECT_EQ(fixture.Run(*narrow, 1), 1);
  EXPECT_EQ(fixture.Run(*wide, 10), 11);
  EXPECT_EQ(fixture.Run(*narrow, 1), 12);
  EXPECT_EQ(fixture.Run(*wide, 10, 7), 20);
  EXPECT_EQ(fixture.gpu.captures, 2);
  // A mirror of each host buffer, the state, the working memory and what nobody reads.
  EXPECT_EQ(fixture.gpu.live_blocks, 5);
  EXPECT_EQ(fixture.gpu.live_pins, 2);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

TEST(CapturedEngine, StateThatIsNotUpdatedInPlaceIsWrittenAsideAndCopiedWithinTheGraph) {
  Fixture fixture(/*in_place=*/false);
  const std::unique_ptr<Call> narrow = fixture.Bind(1);
  const std::unique_ptr<Call> wide = fixture.Bind(8);
  EXPECT_EQ(fixture.Run(*narrow, 1), 1);
  EXPECT_EQ(fixture.Run(*wide, 10), 11);
  const int waits = fixture.gpu.synchronisations, launches = fixture.gpu.launches;
  EXPECT_EQ(fixture.Run(*narrow, 1), 12);
  EXPECT_EQ(fixture.Run(*wide, 10, 7), 20);
  EXPECT_EQ(fixture.gpu.launches - launches, 2);
  EXPECT_EQ(fixture.gpu.synchronisations - waits, 2);
  EXPECT_EQ(fixture.gpu.copies_within, 4);  // Queued by a first run of each shape, and recorded.
  // As above, and the state's other place, which the shapes share.
  EXPECT_EQ(fixture.gpu.live_blocks, 6);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

// Two calls, of which the second takes one number from the sums of the first, with one wait.
TEST(CapturedEngine, TakesPiecesOfWhatAnEarlierRunWroteWithoutAWait) {
  Fixture fixture;
  const Buffer others(kMost * 8);
  std::vector<Tensor> inputs = fixture.Inputs(3);
  inputs[0] = PortOf(others, "numbers", DType::kInt64, {1, 3});
  std::int64_t* numbers = others.As<std::int64_t>();
  const std::int64_t* first_sum = fixture.sums.As<std::int64_t>();
  inputs[0].pieces = {
      {{numbers + 2, 8, first_sum, 8, 8, 1}, fixture.sums.data(), fixture.sums.size()}};
  const Buffer other_sums(kMost * 8);
  std::vector<Tensor> outputs = fixture.Outputs(3);
  outputs[0] = PortOf(other_sums, "sums", DType::kInt64, {1, 3});
  const std::unique_ptr<Call> second = fixture.engine->Bind(inputs, outputs);
  const std::unique_ptr<Call> first = fixture.Bind(1);
  std::int64_t state = 0, taken = 0;
  for (int round = 0; round < 4; ++round) {
    const int waits = fixture.gpu.synchronisations;
    fixture.numbers.As<std::int64_t>()[0] = 5;
    std::fill_n(numbers, kMost, 1);
    first->Start();
    second->Start();
    second->Wait();
    first->Wait();
    EXPECT_EQ(fixture.gpu.synchronisations, waits + 1);
    const std::int64_t sum = state + 5;
    state = sum + 1;
    taken += sum;
    EXPECT_EQ(first_sum[0], sum);
    EXPECT_EQ(other_sums.As<std::int64_t>()[0], state);
    EXPECT_EQ(other_sums.As<std::int64_t>()[1], round + 1);
    EXPECT_EQ(other_sums.As<std::int64_t>()[2], taken);
  }
  EXPECT_EQ(fixture.gpu.captures, 2);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

TEST(CapturedEngine, InputsOfOneBufferAreOneCopy) {
  SubstituteGpu gpu;
  const std::shared_ptr<GpuShare> share = MakeSubstituteShare(gpu);
  const std::vector<NamedPort> ports = {
      MakePort("left", DType::kInt64, true, {1, 1}, {"", ""}),
      MakePort("right", DType::kInt64, true, {1, 1}, {"", ""}),
      MakePort("sum", DType::kInt64, false, {1, 1}, {"", ""}),
  };
  const auto add = [](const BoundPorts& bound) {
    const auto number = [&](const char* name) { return bound.Row<std::int64_t>(name, 0)[0]; };
    bound.Row<std::int64_t>("sum", 0)[0] = number("left") + number("right");
  };
  CapturedEngine engine(share, MakeSubstituteProgram(gpu, MakeEngine(add), ports), "add.engine");
  const Buffer numbers(1024), sum(8);
  const std::vector<Tensor> inputs = {PortOf(numbers, "left", DType::kInt64, {1, 1}, 512),
                                      PortOf(numbers, "right", DType::kInt64, {1, 1}, 256)};
  const std::vector<Tensor> outputs = {PortOf(sum, "sum", DType::kInt64, {1, 1})};
  const std::unique_ptr<Call> call = engine.Bind(inputs, outputs);
  const int before = gpu.copies_in;
  for (std::int64_t round = 0; round < 3; ++round) {
    static_cast<std::int64_t*>(inputs[0].data)[0] = round;
    static_cast<std::int64_t*>(inputs[1].data)[0] = 7;
    call->Run();
    EXPECT_EQ(sum.As<std::int64_t>()[0], round + 7);
  }
  EXPECT_EQ(gpu.copies_in, before + 2);  // Queued by the first run, then recorded.
  EXPECT_EQ(gpu.live_pins, 2);
  EXPECT_EQ(gpu.violations, 0);
}

TEST(CapturedEngine, PinsEndWithTheLastCall) {
  Fixture fixture;
  std::unique_ptr<Call> one = fixture.Bind(1);
  std::unique_ptr<Call> other = fixture.Bind(2);
  fixture.Run(*one, 1);
  one.reset();
  EXPECT_EQ(fixture.gpu.live_pins, 2);
  other.reset();
  EXPECT_EQ(fixture.gpu.live_pins, 0);
  EXPECT_EQ(fixture.gpu.live_contexts, 0);
  one = fixture.Bind(1);
  EXPECT_EQ(fixture.Run(*one, 1), 2);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

TEST(CapturedEngine, RunsPieceByPieceWhereNothingCanBeCaptured) {
  for (bool GpuFaults::* fault :
       {&GpuFaults::capturing, &GpuFaults::capturing_runs, &GpuFaults::registering}) {
    Fixture fixture;
    fixture.gpu.faults.*fault = true;
    const std::unique_ptr<Call> call = fixture.Bind(3);
    EXPECT_EQ(fixture.Run(*call, 5), 5);
    EXPECT_EQ(fixture.Run(*call, 2), 7);
    EXPECT_EQ(fixture.gpu.launches, 0);
    EXPECT_EQ(fixture.engine->counters()->fallbacks, 1);
    EXPECT_EQ(fixture.engine->counters()->captures, 0);
    EXPECT_EQ(fixture.engine->counters()->uncaptured_runs, 2);
    EXPECT_EQ(fixture.gpu.violations, 0);
  }
}

TEST(CapturedEngine, RefusesWhatTheEngineDoesNotTake) {
  Fixture fixture;
  std::vector<Tensor> inputs = fixture.Inputs(3);
  const std::vector<Tensor> outputs = fixture.Outputs(3);
  const std::vector<Tensor> fewer(inputs.begin() + 1, inputs.end());
  EXPECT_TRUE(Says(fixture.Refusal(fewer, outputs),
                   "has the input 'numbers', which this runtime does not provide"));
  EXPECT_TRUE(Says(fixture.Refusal(fixture.Inputs(9), outputs),
                   "takes [1, 1] to [1, 8] for 'numbers', not [1, 9]"));
  inputs[0].dtype = DType::kFloat16;
  EXPECT_TRUE(Says(fixture.Refusal(inputs, outputs), "has 'numbers' as int64, not float16"));
  inputs = fixture.Inputs(3);
  EXPECT_TRUE(
      Says(fixture.Refusal(inputs, fixture.Outputs(2)), "gives [1, 3] for 'sums', not [1, 2]"));
  std::vector<Tensor> more = outputs;
  more.push_back({"surprise", DType::kInt64, nullptr, {1}});
  EXPECT_TRUE(Says(fixture.Refusal(inputs, more), "'sums.engine' has no output 'surprise'"));
  EXPECT_EQ(fixture.gpu.live_contexts, 0);
  EXPECT_EQ(fixture.gpu.live_pins, 0);
}

TEST(CapturedEngine, FailuresOfTheGpuAreBackendErrors) {
  Fixture fixture;
  std::unique_ptr<Call> call = fixture.Bind(3);
  fixture.gpu.faults.running = true;
  EXPECT_TRUE(Says(fixture.FailureOfRun(*call), "refused a round: the program failed"));
  fixture.gpu.faults.running = false;
  EXPECT_EQ(fixture.Run(*call, 1), 1);
  fixture.gpu.faults.launching = true;
  EXPECT_TRUE(Says(fixture.FailureOfRun(*call), "refused a round: the substitute failed"));
  fixture.gpu.faults.launching = false;
  fixture.gpu.faults.synchronising = true;
  EXPECT_TRUE(Says(fixture.FailureOfRun(*call), "failed in a round"));
  fixture.gpu.faults.making_contexts = true;
  EXPECT_EQ(CodeOf([&] { fixture.Bind(2); }), ErrorCode::kBackend);
}

TEST(CapturedEngine, SaysWhereMemoryIsOut) {
  for (int allocations = 0; allocations < 4; ++allocations) {
    Fixture fixture;
    fixture.gpu.faults.allocations_left = allocations;
    EXPECT_EQ(CodeOf([&] { fixture.Bind(3); }), ErrorCode::kCapacity);
    EXPECT_EQ(fixture.gpu.live_pins, 0);
    fixture.gpu.faults.allocations_left = -1;
    EXPECT_EQ(fixture.Run(*fixture.Bind(3), 4), 4);
    EXPECT_EQ(fixture.gpu.violations, 0);
  }
}

TEST(CapturedEngine, EnginesWorkInTheMemoryOfTheNeediest) {
  Fixture fixture;
  const CapturedEngine needy(fixture.share,
                             MakeSubstituteProgram(fixture.gpu, MakeEngine(AddNumbers), {}, 50'000),
                             "needy.engine");
  const std::unique_ptr<Call> call = fixture.Bind(3);
  EXPECT_EQ(fixture.share->WorkingBlock()->size(), 50'000U);
  // One that comes later and needs more leaves the others what they have.
  const CapturedEngine later(fixture.share,
                             MakeSubstituteProgram(fixture.gpu, MakeEngine(AddNumbers), {}, 60'000),
                             "later.engine");
  EXPECT_EQ(fixture.share->WorkingBlock()->size(), 60'000U);
  EXPECT_EQ(fixture.Run(*call, 5), 5);
  EXPECT_EQ(fixture.Run(*call, 5), 10);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

}  // namespace
}  // namespace ptgc
