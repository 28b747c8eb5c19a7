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

int Choose(const DraftLength& length, std::vector<DraftOffer> offers) {
  return length.Choose(offers, kFree);
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
  std::vector<DraftOffer> offers = {{15, 0.8}};
  const int cheap = length.Choose(offers, [](int drafts) { return drafts * 0.02; });
  offers = {{15, 0.8}};
  const int dear = length.Choose(offers, [](int drafts) { return drafts * 0.3; });
  offers = {{15, 0.8}};
  EXPECT_GT(cheap, dear);
  EXPECT_GT(dear, 0);
  EXPECT_EQ(length.Choose(offers, [](int drafts) { return drafts * 1.0; }), 0);
}

TEST(AcceptanceEstimate, PriorRisesWithTheMatch) {
  const AcceptanceEstimate estimate(2, 8);
  EXPECT_DOUBLE_EQ(estimate.Rate(2), 0.5);
  EXPECT_DOUBLE_EQ(estimate.Rate(8), 0.85);
  EXPECT_GT(estimate.Rate(6), estimate.Rate(4));
}

TEST(AcceptanceEstimate, LearnsByMatchLength) {
  AcceptanceEstimate estimate(2, 8);
  for (int i = 0; i < 20; ++i) estimate.Observe(2, 4, 0);
  EXPECT_LT(estimate.Rate(2), 0.15);
  EXPECT_DOUBLE_EQ(estimate.Rate(8), 0.85);
  for (int i = 0; i < 20; ++i) estimate.Observe(2, 4, 4);
  EXPECT_GT(estimate.Rate(2), 0.75);
}

TEST(AcceptanceEstimate, WhatIsNotTriedReturnsToThePrior) {
  AcceptanceEstimate estimate(2, 8);
  for (int i = 0; i < 20; ++i) estimate.Observe(5, 4, 0);
  const double learnt = estimate.Rate(5);
  for (int i = 0; i < 200; ++i) estimate.Skip(5);
  EXPECT_GT(estimate.Rate(5), learnt + 0.3);
}

}  // namespace
}  // namespace ptgc
