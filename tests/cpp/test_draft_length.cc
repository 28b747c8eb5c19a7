#include <gtest/gtest.h>

#include <vector>

#include "drafters/draft_length.h"

namespace ptgc {
namespace {

const std::vector<int> kWidths = {1, 2, 4, 8, 16, 64};

DraftLength Measured(const std::map<int, double>& costs) {
  return DraftLength(DraftLengthMode::kMeasured, CostCurve(kWidths, costs));
}

constexpr auto kFree = [](int) { return 0.0; };

// A row whose drafts, a chain, are each accepted at one rate.
struct Chain {
  int tokens = 0;
  double rate = 0;
  int chunk = 1;
};

template <typename DrafterCost>
int Choose(const DraftLength& length, const std::vector<Chain>& chains, DrafterCost cost) {
  std::vector<std::vector<double>> gains;
  std::vector<DraftOffer> offers;
  for (const Chain& chain : chains) {
    gains.emplace_back();
    double reached = 1;
    for (int i = 0; i < chain.tokens; ++i) gains.back().push_back(reached *= chain.rate);
  }
  for (std::size_t i = 0; i < chains.size(); ++i) offers.push_back({gains[i], chains[i].chunk});
  return length.Choose(offers, cost);
}

int Choose(const DraftLength& length, const std::vector<Chain>& chains) {
  return Choose(length, chains, kFree);
}

TEST(DraftLength, FixedTakesAllThatIsOffered) {
  const DraftLength length(DraftLengthMode::kFixed, CostCurve(kWidths, {{1, 1.0}, {2, 99.0}}));
  EXPECT_EQ(Choose(length, {{5, 0.01}}), 5);
}

TEST(DraftLength, DraftsWhenTheyPay) { EXPECT_EQ(Choose(Measured({}), {{7, 0.9}}), 7); }

TEST(DraftLength, DeclinesWhenRowsAreDear) {
  EXPECT_EQ(Choose(Measured({{1, 1.0}, {64, 64.0}}), {{15, 0.8}}), 0);
}

TEST(DraftLength, ChoosesAWidthInBetween) {
  // 1 + .7 + .7^2 + .7^3 = 2.53 tokens for 1.8; 15 drafts give 3.3 for 4.5.
  const DraftLength length = Measured({{1, 1.0}, {2, 1.2}, {4, 1.5}, {8, 2.5}, {16, 4.5}});
  EXPECT_EQ(Choose(length, {{15, 0.7}}), 3);
}

TEST(DraftLength, RowsOfABatchDecideTogether) {
  const DraftLength length = Measured({{1, 1.0}, {2, 1.4}});
  EXPECT_GT(Choose(length, {{1, 0.9}, {1, 0.9}}), 0);
  EXPECT_EQ(Choose(length, {{1, 0.9}, {0, 0}, {0, 0}, {0, 0}}), 0);
}

TEST(DraftLength, RoundThatIsWideAnywayHasRoomForDrafts) {
  const DraftLength length = Measured({{1, 1.0}, {64, 64.0}});
  EXPECT_EQ(Choose(length, {{0, 0, 64}, {15, 0.5}}), 15);
}

TEST(DraftLength, DrafterThatCostsMuchDraftsLess) {
  const DraftLength length = Measured({{1, 1.0}, {16, 1.5}});
  const std::vector<Chain> offer = {{15, 0.8}};
  const int cheap = Choose(length, offer, [](int drafts) { return drafts * 0.02; });
  const int dear = Choose(length, offer, [](int drafts) { return drafts * 0.3; });
  EXPECT_GT(cheap, dear);
  EXPECT_GT(dear, 0);
  EXPECT_EQ(Choose(length, offer, [](int drafts) { return drafts * 1.0; }), 0);
}

}  // namespace
}  // namespace ptgc
