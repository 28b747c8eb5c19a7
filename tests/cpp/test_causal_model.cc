#include <gtest/gtest.h>

#include <cstring>

#include "function_engine.h"
#include "models/causal_model.h"
#include "substitute_engine.h"

namespace ptgc {
namespace {

using Ids = std::vector<std::int64_t>;

// Keeps the inputs of its last call as the graph would see them.
class RecordingEngine : public Engine {
 public:
  bool HasInput(std::string_view) const override { return true; }
  std::unique_ptr<Call> Bind(std::span<const Tensor> inputs, std::span<const Tensor>) override {
    bound.emplace_back(inputs.begin(), inputs.end());
    struct Nothing : Call {
      void Start() override {}
    };
    return std::make_unique<Nothing>();
  }
  std::vector<std::vector<Tensor>> bound;
};

struct Fixture {
  explicit Fixture(int batch) {
    auto owned = std::make_unique<RecordingEngine>();
    engine = owned.get();
    const Bundle bundle = SubstituteBundle(batch, NgramPlan());
    target = std::make_unique<CausalModel>(std::move(owned), bundle, "target", kVocabSize);
  }
  Ids Input(const std::string& name) const {
    for (const Tensor& tensor : engine->bound.back()) {
      if (tensor.name != name) continue;
      std::size_t size = 1;
      for (std::int64_t dim : tensor.shape) size *= static_cast<std::size_t>(dim);
      if (tensor.dtype == DType::kBool) {
        const bool* data = static_cast<const bool*>(tensor.data);
        return {data, data + size};
      }
      const std::int64_t* data = static_cast<const std::int64_t*>(tensor.data);
      return {data, data + size};
    }
    return {};
  }
  RecordingEngine* engine;
  std::unique_ptr<CausalModel> target;
};

TEST(CausalModel, PadsRowsWithTheLastValidPosition) {
  Fixture fixture(2);
  const std::vector<TokenId> text = {5, 6, 7};
  std::vector<RowInput> rows(2);
  rows[0].tokens = text;
  rows[0].write_index = 10;
  rows[1].write_index = 4;
  fixture.target->Forward(rows, 4, {1});
  EXPECT_EQ(fixture.Input("input_ids"), (Ids{5, 6, 7, 0, 0, 0, 0, 0}));
  EXPECT_EQ(fixture.Input("position_ids"), (Ids{10, 11, 12, 12, 3, 3, 3, 3}));
  EXPECT_EQ(fixture.Input("write_index"), (Ids{10, 4}));
  EXPECT_EQ(fixture.Input("row_count"), (Ids{3, 0}));
  EXPECT_EQ(fixture.Input("logits_rows"), (Ids{2, 0}));
}

TEST(CausalModel, MasksTextTreeAndPadding) {
  Fixture fixture(1);
  const std::vector<TokenId> text = {5, 6};
  const std::vector<TokenId> drafts = {7, 8};
  const TreeSpec tree({-1, 0, 0});
  std::vector<RowInput> rows(1);
  rows[0].tokens = text;
  rows[0].drafts = drafts;
  rows[0].tree = &tree;
  fixture.target->Forward(rows, 8, {8});
  const Ids mask = fixture.Input("tree_mask");
  EXPECT_EQ(Ids(mask.begin(), mask.begin() + 8), (Ids{1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Ids(mask.begin() + 8, mask.begin() + 16), (Ids{1, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Ids(mask.begin() + 16, mask.begin() + 24), (Ids{1, 1, 1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Ids(mask.begin() + 24, mask.begin() + 32), (Ids{1, 1, 0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(Ids(mask.begin() + 32, mask.begin() + 40), (Ids{0, 0, 0, 0, 1, 0, 0, 0}));
  EXPECT_EQ(fixture.Input("position_ids"), (Ids{0, 1, 2, 2, 2, 2, 2, 2}));
  EXPECT_EQ(fixture.Input("logits_rows"), (Ids{1, 2, 3, 3, 3, 3, 3, 3}));
}

// Of a tree the nodes of the first depth were run before, and stand behind the text in the cache.
TEST(CausalModel, ARoundOfOneDepthSeesTheNodesOfEarlierRounds) {
  const TreeSpec tree({-1, 0, 0, 1, 2, 2});
  Bundle bundle = SubstituteBundle(1, NgramPlan());
  bundle.roles.at("target").mask_extra = 5;
  auto owned = std::make_unique<RecordingEngine>();
  const RecordingEngine& engine = *owned;
  CausalModel model(std::move(owned), bundle, "target", kVocabSize);
  const std::vector<TokenId> drafts = {7, 8, 9};
  const std::vector<RowInput> rows = {{{}, drafts, &tree, /*write_index=*/10, /*first_node=*/3}};
  model.Forward(rows, 4, {4});
  const auto input = [&](const std::string& name) {
    Ids values;
    for (const Tensor& tensor : engine.bound.back()) {
      if (tensor.name != name) continue;
      std::size_t size = 1;
      for (std::int64_t dim : tensor.shape) size *= static_cast<std::size_t>(dim);
      for (std::size_t i = 0; i < size; ++i) {
        values.push_back(tensor.dtype == DType::kBool
                             ? static_cast<const bool*>(tensor.data)[i]
                             : static_cast<const std::int64_t*>(tensor.data)[i]);
      }
    }
    return values;
  };
  EXPECT_EQ(input("input_ids"), (Ids{7, 8, 9, 0}));
  EXPECT_EQ(input("position_ids"), (Ids{11, 11, 11, 11}));
  EXPECT_EQ(input("mask_start"), (Ids{10}));
  EXPECT_EQ(input("write_index"), (Ids{12}));
  EXPECT_EQ(input("row_count"), (Ids{3}));
  EXPECT_EQ(input("logits_rows"), (Ids{0, 1, 2, 2}));
  EXPECT_EQ(input("tree_mask"), (Ids{1, 0, 1, 0, 0, 0, 0, 0, 0,  //
                                     0, 1, 0, 1, 0, 0, 0, 0, 0,  //
                                     0, 1, 0, 0, 1, 0, 0, 0, 0,  //
                                     0, 0, 0, 0, 0, 1, 0, 0, 0}));
}

// The answers of a tree that is run depth by depth are those of a tree that is run at once.
TEST(CausalModel, ATreeRunDepthByDepthAnswersAsOneRunAtOnce) {
  const TreeSpec tree({-1, 0, 0, 1, 2, 2, 4});
  Bundle bundle = SubstituteBundle(1, NgramPlan());
  bundle.roles.at("target").mask_extra = 6;
  Observations seen;
  CausalModel model(std::make_unique<SubstituteEngine>(seen), bundle, "target", kVocabSize);
  const std::vector<TokenId> text = {5, 6, 7}, drafts = {11, 12, 13, 14, 15, 16};
  const auto run = [&](RowInput input, int width, int answers) {
    model.Forward(std::vector<RowInput>{input}, width, {width == 1 ? 1 : 8});
    const std::span<const TokenId> ids = model.NextIds(0).first(static_cast<std::size_t>(answers));
    return std::vector<TokenId>(ids.begin(), ids.end());
  };
  const std::vector<TokenId> at_once = run({text, drafts, &tree, 0}, 16, 7);
  std::vector<TokenId> by_depth = run({text, {}, nullptr, 0}, 8, 1);
  const std::span<const TokenId> nodes(drafts);
  for (const auto& [first, count] : {std::pair{1, 2}, {3, 3}, {6, 1}}) {
    const auto part =
        nodes.subspan(static_cast<std::size_t>(first - 1), static_cast<std::size_t>(count));
    const std::vector<TokenId> found = run({{}, part, &tree, 3, first}, 8, count);
    by_depth.insert(by_depth.end(), found.begin(), found.end());
  }
  EXPECT_EQ(by_depth, at_once);
  EXPECT_EQ(seen.broken_texts + seen.out_of_bounds, 0);
}

TEST(CausalModel, BindsEveryShapePointOnce) {
  Fixture fixture(1);
  const std::vector<RowInput> rows(1);
  for (int i = 0; i < 3; ++i) {
    fixture.target->Forward(rows, 1, {1});
    fixture.target->Forward(rows, 8, {8});
    fixture.target->Forward(rows, 8, {1});
  }
  EXPECT_EQ(fixture.engine->bound.size(), 3U);
  fixture.target->kv_cache().Grow(49);
  fixture.target->Forward(rows, 1, {1});
  EXPECT_EQ(fixture.engine->bound.size(), 4U);
}

// The offset that the cache slid to is what the graph reads, of each row.
TEST(CausalModel, TellsTheGraphWhereSlidingCachesBegin) {
  Bundle bundle = SubstituteBundle(2, NgramPlan());
  LayerState window = bundle.roles.at("target").states.front();
  window.kind = StateKind::kWindow;
  window.window = 4;
  bundle.roles.at("target").states.push_back(window);
  bundle.shapes.roles.at("target").window_capacities = {{4, 20}};
  auto owned = std::make_unique<RecordingEngine>();
  const RecordingEngine& engine = *owned;
  CausalModel model(std::move(owned), bundle, "target", kVocabSize);
  const std::vector<TokenId> text = {5, 6};
  std::vector<RowInput> rows(2);
  rows[1].tokens = text;
  for (int length = 0; length < 30; length += 2) {
    rows[1].write_index = length;
    model.Forward(rows, 4, {1});
    for (const Tensor& tensor : engine.bound.back()) {
      if (tensor.name != "window_offset") continue;
      const std::int64_t* offsets = static_cast<const std::int64_t*>(tensor.data);
      EXPECT_EQ(offsets[0], 0);
      EXPECT_EQ(offsets[1], model.kv_cache().window_offset(1));
    }
  }
  EXPECT_GT(model.kv_cache().window_offset(1), 0);
}

// A drafter's chain of two runs, and a target that takes both drafts, nobody having waited.
TEST(CausalModel, HandsIdsOnFromRunToRun) {
  const Bundle bundle = SubstituteBundle(2, NgramPlan());
  Observations drafted, verified;
  CausalNeighbours chain;
  chain.chain_length = 2;
  CausalModel drafter(std::make_unique<SubstituteEngine>(drafted), bundle, "target", kVocabSize,
                      std::move(chain));
  CausalNeighbours neighbours;
  neighbours.draft_ids = drafter.ChainIds();
  CausalModel target(std::make_unique<SubstituteEngine>(verified), bundle, "target", kVocabSize,
                     std::move(neighbours));
  const std::vector<TokenId> texts[] = {{5}, {9}};
  const std::vector<TokenId> unknown = {0, 0};
  const TreeSpec tree = TreeSpec::Chain(2);
  std::vector<RowInput> rows(2);
  for (std::size_t row = 0; row < 2; ++row) rows[row].tokens = texts[row];
  drafter.Start(rows, 1, {});
  for (RowInput& row : rows) {
    row.tokens = std::span(unknown).first(1);
    row.write_index = 1;
  }
  drafter.Start(rows, 1, {1, false, /*link=*/1});
  for (std::size_t row = 0; row < 2; ++row) rows[row] = {texts[row], unknown, &tree, 0};
  target.Forward(rows, 8, {8, false, 0, /*pending_drafts=*/true});
  drafter.Wait();
  for (int row = 0; row < 2; ++row) {
    const std::vector<TokenId> expected = Continuation(texts[row], 3);
    EXPECT_EQ(drafter.NextIds(row, 0)[0], expected[0]);
    EXPECT_EQ(drafter.NextIds(row, 1)[0], expected[1]);
    const std::span<const TokenId> answers = target.NextIds(row).first(3);
    EXPECT_EQ(std::vector<TokenId>(answers.begin(), answers.end()), expected);
  }
  EXPECT_EQ(drafted.broken_texts + verified.broken_texts, 0);
}

TEST(CausalModel, LogitsHaveTheTypeOfThePort) {
  Bundle bundle = SubstituteBundle(1, NgramPlan());
  bundle.roles.at("target").outputs = {{"logits", DType::kFloat16, kVocabSize}};
  auto engine = MakeEngine([](const BoundPorts& ports) {
    for (std::uint16_t& half : ports.Row<std::uint16_t>("logits", 0)) half = 0x3C00;  // 1
  });
  CausalModel target(std::move(engine), bundle, "target", kVocabSize);
  const std::vector<TokenId> text = {5};
  std::vector<RowInput> rows(1);
  rows[0].tokens = text;
  target.Forward(rows, 8, {8, true});
  for (int index : {0, 7}) {
    const LogitsRow logits = target.Logits(0, index);
    EXPECT_EQ(logits.dtype, DType::kFloat16);
    std::vector<float> values(kVocabSize);
    logits.Copy(values);
    EXPECT_EQ(values, std::vector<float>(kVocabSize, 1.0F));
  }
}

}  // namespace
}  // namespace ptgc
