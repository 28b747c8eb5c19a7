#include <gtest/gtest.h>

#include "base/error.h"
#include "function_engine.h"
#include "models/encoder.h"
#include "substitute_gpu.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

ShapePlan Shapes() {
  ShapePlan shapes;
  shapes.batch = 3;
  shapes.roles["encoder"].source_lengths = {5};
  return shapes;
}

Role EncoderRole() {
  Role role;
  role.outputs = {{"encoder_hidden_states", DType::kFloat32, 1}};
  return role;
}

struct Fixture {
  int runs = 0;
  Encoder encoder{MakeIdentityEncoder(runs), HiddenStates(EncoderRole(), Shapes()), Shapes()};
  BoundPorts ports{encoder.Ports(), {}};
  Tokens Seen(int row) const { return SeenSource(ports, row); }
  void Encode(int row, const Tokens& source) {
    const Source one{row, source};
    encoder.Encode({&one, 1});
  }
};

TEST(Encoder, RowsDoNotDisturbEachOther) {
  Fixture fixture;
  fixture.Encode(0, {1, 2, 3, 4, 5});
  fixture.Encode(2, {6});
  EXPECT_EQ(fixture.Seen(0), (Tokens{1, 2, 3, 4, 5}));
  EXPECT_EQ(fixture.Seen(2), Tokens{6});
  fixture.Encode(0, {7, 8});
  EXPECT_EQ(fixture.Seen(0), (Tokens{7, 8}));
  EXPECT_EQ(fixture.Seen(2), Tokens{6});
}

TEST(Encoder, ReadsManyRowsInOneRunAndNoneInNone) {
  Fixture fixture;
  const Tokens first = {1, 2};
  const Tokens second = {3};
  const std::vector<Source> sources = {{1, first}, {2, second}};
  fixture.encoder.Encode(sources);
  fixture.encoder.Encode({});
  EXPECT_EQ(fixture.runs, 1);
  EXPECT_EQ(fixture.Seen(1), first);
  EXPECT_EQ(fixture.Seen(2), second);
}

TEST(Encoder, CopiesARow) {
  Fixture fixture;
  fixture.Encode(0, {1, 2, 3});
  fixture.encoder.CopyRow(0, 1);
  fixture.Encode(0, {4});
  EXPECT_EQ(fixture.Seen(1), (Tokens{1, 2, 3}));
  EXPECT_EQ(fixture.runs, 2);
}

// A row without a source still has something to attend to.
TEST(Encoder, NoRowIsMaskedWholly) {
  const Fixture fixture;
  for (int row = 0; row < 3; ++row) EXPECT_EQ(fixture.Seen(row).size(), 1U);
}

TEST(Encoder, CrossStatesAreNamedByLayer) {
  LayerState state;
  state.kv_heads = 2;
  state.head_dim = 4;
  const std::vector<LayerState> states(2, state);
  const std::vector<EncoderOutput> outputs = CrossStates(states, Shapes());
  ASSERT_EQ(outputs.size(), 4U);
  EXPECT_EQ(outputs[3].written, "present.1.encoder.value");
  EXPECT_EQ(outputs[3].read, "past_key_values.1.encoder.value");
  EXPECT_EQ(outputs[3].shape, (std::vector<std::int64_t>{3, 2, 5, 4}));
}

TEST(Encoder, RefusesARoleWithoutHiddenStates) {
  EXPECT_THROW(HiddenStates(Role(), Shapes()), Error);
}

TEST(Encoder, StatesStayOnTheDevice) {
  int runs = 0;
  SubstituteGpu gpu;
  const std::shared_ptr<GpuShare> share = MakeSubstituteShare(gpu);
  Encoder encoder(OnGpu(gpu, share, MakeIdentityEncoder(runs)),
                  HiddenStates(EncoderRole(), Shapes()), Shapes());
  const std::vector<TokenId> source = {7, 8};
  const Source one{0, source};
  encoder.Encode({&one, 1});
  encoder.CopyRow(0, 1);
  const Tensor states = encoder.Ports().front();
  ASSERT_TRUE(share->memory()->Holds(states.data));
  std::vector<float> seen(states.bytes() / sizeof(float));
  share->device().CopyOut(seen.data(), states.data, states.bytes());
  share->device().Synchronise();
  EXPECT_EQ(std::vector<float>(seen.begin(), seen.begin() + 5),
            (std::vector<float>{7, 8, -1, -1, -1}));
  EXPECT_EQ(std::vector<float>(seen.begin() + 5, seen.begin() + 10),
            (std::vector<float>{7, 8, -1, -1, -1}));
  EXPECT_EQ(gpu.violations, 0);
}

}  // namespace
}  // namespace ptgc
