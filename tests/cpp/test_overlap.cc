#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "drafters/lookup_drafter.h"
#include "loops/overlap.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

// Tells what it was asked for. A draft costs a tenth of a second.
class Ahead : public LookupDrafter {
 public:
  int Propose(const DraftRow&) override { return 0; }
  bool drafts_ahead() const override { return does_; }
  void DraftAhead(std::span<const DraftRow> rows) override {
    told += "draft";
    for (const DraftRow& row : rows) told += " " + std::to_string(row.limit);
    told += "; ";
  }
  void FinishAhead() override { told += "finish; "; }
  void DropAhead() noexcept override { told += "drop; "; }
  AheadDrafts ahead(int row) const override { return {4 + row, true}; }
  double Cost(int count) const override { return count * 0.1; }

  std::string told;
  bool does_ = true;
};

// Two rows, of which the second has no drafts.
struct Fixture {
  explicit Fixture(DraftLengthMode mode = DraftLengthMode::kMeasured)
      : length(mode, CostCurve({1, 2, 4}, {{1, 0.3}, {2, 0.5}, {4, 0.55}})) {
    for (int row = 0; row < 2; ++row) {
      turns[row].session = &sessions[row];
      turns[row].max_new_tokens = 20;
      rows[row].row = row;
      rows[row].limit = 7;
    }
    turns[0].drafted = drafts;
  }
  double Run(int width) {
    return overlap.Beside(turns, rows, width, [&] { drafter.told += "verify; "; });
  }

  Ahead drafter;
  DraftLength length;
  Overlap overlap{&drafter, length, 6, 2};
  Session sessions[2] = {Session(0, {128, 128, 23}), Session(1, {128, 128, 23})};
  Tokens drafts = {1, 2};
  Turn turns[2];
  DraftRow rows[2];
};

TEST(Overlap, DraftsAsManyAsTheTargetsRunTakes) {
  Fixture fixture;
  EXPECT_GE(fixture.Run(4), 0);
  // The guess and four drafts take 0.5 s. The guard finds nothing left to wait for.
  EXPECT_EQ(fixture.drafter.told, "draft 5 0; verify; finish; drop; ");
  EXPECT_EQ(fixture.turns[0].ahead, 4);
  EXPECT_TRUE(fixture.turns[0].is_ahead);
  EXPECT_EQ(fixture.turns[1].ahead, 5);
  EXPECT_FALSE(fixture.turns[1].is_ahead);  // It verified none.
}

TEST(Overlap, DraftsNoFewerThanThisRoundHasAndChargesWhatIsWaitedFor) {
  Fixture fixture;
  fixture.Run(1);
  EXPECT_EQ(fixture.drafter.told.substr(0, 9), "draft 3 0");
  EXPECT_NEAR(fixture.overlap.Cost(fixture.turns[0], 1), 0.4 - 0.3, 1e-12);
  EXPECT_EQ(fixture.overlap.Cost(fixture.turns[0], 4), 0);
  fixture.turns[0].ahead = 0;
  EXPECT_EQ(fixture.overlap.Cost(fixture.turns[0], 1), 0);
}

TEST(Overlap, DraftsAllIfCostsAreNotWeighedButNoneBehindTheEnd) {
  Fixture fixture(DraftLengthMode::kFixed);
  fixture.Run(1);
  EXPECT_EQ(fixture.drafter.told.substr(0, 9), "draft 7 0");
  fixture.drafter.told.clear();
  fixture.turns[0].max_new_tokens = 4;  // Two drafts, the bonus, and one that needs no draft.
  fixture.Run(1);
  EXPECT_EQ(fixture.drafter.told.substr(0, 9), "draft 0 0");
}

TEST(Overlap, DropsThemIfTheTargetFails) {
  Fixture fixture;
  EXPECT_THROW(fixture.overlap.Beside(fixture.turns, fixture.rows, 1,
                                      [] { throw std::runtime_error("failed"); }),
               std::runtime_error);
  EXPECT_EQ(fixture.drafter.told, "draft 3 0; drop; ");
}

TEST(Overlap, OnlyRunsTheTargetWhereNoneIsMade) {
  Fixture fixture;
  fixture.drafter.does_ = false;
  EXPECT_EQ(fixture.Run(1), 0);
  EXPECT_EQ(fixture.drafter.told, "verify; ");
  Overlap plain(nullptr, fixture.length, 0, 2);
  bool ran = false;
  EXPECT_EQ(plain.Beside(fixture.turns, fixture.rows, 1, [&] { ran = true; }), 0);
  EXPECT_TRUE(ran);
  EXPECT_EQ(plain.Cost(Turn(), 1), 0);
}

}  // namespace
}  // namespace ptgc
