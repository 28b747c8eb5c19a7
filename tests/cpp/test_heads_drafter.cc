#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "drafters/heads_drafter.h"
#include "function_engine.h"
#include "sampling/row_sampling.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

constexpr int kHidden = 4;
const std::vector<int> kParents = {-1, 0, 0, 1};

// Hidden states whose first number says which row and which token of its last run they are of.
class NumberedTaps : public Taps {
 public:
  explicit NumberedTaps(int row) : row_(row) {}
  void Copy(int first, int count, void* to) const override {
    EXPECT_EQ(count, 1);
    static_cast<float*>(to)[0] = static_cast<float>(10 * row_ + first);
  }

 private:
  int row_;  // The sequence.
};

// Draft i of a row is 100 times its hidden state's number, plus its last token, plus i.
std::unique_ptr<Engine> Heads() {
  return std::make_unique<FunctionEngine>([](const BoundPorts& ports) {
    for (std::int64_t row = 0; row < ports.Size("hidden_states", 0); ++row) {
      const float number = ports.Row<const float>("hidden_states", row)[0];
      const TokenId last = ports.Row<const TokenId>("input_ids", row)[0];
      TokenId draft = static_cast<TokenId>(number) * 100 + last;
      for (TokenId& id : ports.Row<TokenId>("draft_ids", row)) id = draft++;
    }
  });
}

struct Fixture {
  explicit Fixture(TreeSpec tree = TreeSpec(kParents))
      : drafter(Heads(), Port{"hidden_states", DType::kFloat32, kHidden, {}}, 2, TreeSpec(kParents),
                std::move(tree), 10000, 0.5) {}
  HeadsDrafter drafter;
  Proposal proposals[2] = {Proposal(3), Proposal(3)};
  Tokens text = {1, 2, 3};

  void Observe(int row, std::vector<int> path, TokenId bonus) {
    const NumberedTaps taps(row);
    Observation seen;
    seen.taps = &taps;
    seen.read = std::span(text).first(2);
    seen.path = path;
    seen.bonus = bonus;
    drafter.Observe(row, seen);
  }
  int Propose(int row) { return drafter.Propose({row, text, 2, 9, &proposals[row]}); }
  Tokens Draft(int row, int limit) {
    const DraftRow wanted = {row, text, 2, limit, &proposals[row]};
    proposals[row].Clear();
    drafter.Draft({&wanted, 1});
    return {proposals[row].tokens().begin(), proposals[row].tokens().end()};
  }
};

TEST(HeadsDrafter, DraftsTheTreeFromTheLastAcceptedNode) {
  Fixture fixture;
  EXPECT_EQ(fixture.Propose(0), 0);  // Nothing is known of the text yet.
  fixture.Observe(0, {}, kNoToken);  // A prompt is being read.
  EXPECT_EQ(fixture.Propose(0), 0);
  fixture.Observe(0, {1, 3}, 7);
  fixture.Observe(1, {}, 8);
  EXPECT_EQ(fixture.Propose(0), 3);
  EXPECT_EQ(fixture.Draft(0, 3), (Tokens{403, 404, 405}));
  EXPECT_EQ(fixture.proposals[0].tree().parent(3), 1);
  EXPECT_EQ(fixture.Draft(1, 2), (Tokens{1103, 1104}));
  EXPECT_EQ(fixture.drafter.Cost(2), 0.5);
}

TEST(HeadsDrafter, MeasuresItsRuns) {
  Fixture fixture;
  const std::vector<double> seconds = fixture.drafter.Measure({"heads", 1, 1, 0, 3});
  EXPECT_EQ(seconds.size(), 3U);
  for (const double one : seconds) EXPECT_GE(one, 0);
  EXPECT_TRUE(fixture.drafter.Measure({"heads", 2, 1, 0, 3}).empty());
  EXPECT_TRUE(fixture.drafter.Measure({"drafter", 1, 1, 0, 3}).empty());
}

TEST(HeadsDrafter, TakesThoseDraftsOfItsHeadsThatATreeHas) {
  Fixture fixture(TreeSpec({-1, 0, 1}));
  fixture.Observe(0, {1, 3}, 7);
  EXPECT_EQ(fixture.Propose(0), 2);
  EXPECT_EQ(fixture.Draft(0, 2), (Tokens{403, 405}));
  EXPECT_EQ(fixture.proposals[0].tree().parent(2), 1);
}

TEST(HeadsDrafter, DraftsNothingBehindTokensThatTheTargetHasNotRead) {
  Fixture fixture;
  fixture.Observe(0, {}, 7);
  EXPECT_EQ(fixture.Propose(0), 3);
  fixture.text = {1, 2, 3, 4, 5};  // A session was given more text.
  EXPECT_EQ(fixture.Propose(0), 0);
}

TEST(HeadsDrafter, ForgetsATextThatWasCutAndFollowsACopy) {
  Fixture fixture;
  fixture.Observe(0, {2}, 7);
  fixture.drafter.CopyRow(0, 1);
  fixture.drafter.Truncate(0, 2);
  EXPECT_EQ(fixture.Propose(0), 0);
  EXPECT_EQ(fixture.Propose(1), 3);
  EXPECT_EQ(fixture.Draft(1, 1), (Tokens{303}));
}

}  // namespace
}  // namespace ptgc
