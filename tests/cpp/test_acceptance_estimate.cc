#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "drafters/acceptance_estimate.h"

namespace ptgc {
namespace {

using Numbers = std::vector<double>;

// The nodes 1, 2, ... of a chain.
std::vector<int> Path(int length) {
  std::vector<int> path(static_cast<std::size_t>(length));
  std::iota(path.begin(), path.end(), 1);
  return path;
}

// A round that tried drafts of a chain and accepted some, many times over.
void Repeat(int rounds, AcceptanceEstimate& estimate, int match_length, int tried, int accepted) {
  for (int i = 0; i < rounds; ++i) {
    estimate.Observe(TreeSpec::Chain(7), match_length, tried, Path(accepted));
  }
}

Numbers Gains(const AcceptanceEstimate& estimate, const TreeSpec& tree, int match_length = 0) {
  Numbers gains(static_cast<std::size_t>(tree.num_nodes()) - 1);
  estimate.WriteGains(tree, match_length, gains);
  return gains;
}

void ExpectNear(const Numbers& found, const Numbers& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-12) << i;
}

TEST(AcceptanceEstimate, GainsOfAChainAreThePowersOfItsRate) {
  const AcceptanceEstimate estimate(2, 8);
  EXPECT_EQ(Gains(estimate, TreeSpec::Chain(3), 2), (Numbers{0.5, 0.25, 0.125}));
}

TEST(AcceptanceEstimate, SiblingsShareTheRateOfTheirParentTheEarlierTheMore) {
  const Numbers gains = Gains(AcceptanceEstimate(2, 8), TreeSpec({-1, 0, 0, 1, 1, 2}), 2);
  EXPECT_DOUBLE_EQ(gains[0] + gains[1], 0.5);
  EXPECT_GT(gains[0], gains[1]);
  EXPECT_DOUBLE_EQ(gains[2] + gains[3], gains[0] * 0.5);
  EXPECT_DOUBLE_EQ(gains[4], gains[1] * 0.5);
}

TEST(AcceptanceEstimate, PriorRisesWithTheMatch) {
  const AcceptanceEstimate estimate(2, 8);
  EXPECT_DOUBLE_EQ(estimate.Rate(2), 0.5);
  EXPECT_DOUBLE_EQ(estimate.Rate(8), 0.85);
  EXPECT_GT(estimate.Rate(6), estimate.Rate(4));
}

TEST(AcceptanceEstimate, LearnsByMatchLength) {
  AcceptanceEstimate estimate(2, 8);
  Repeat(20, estimate, 2, 1, 0);
  EXPECT_LT(estimate.Rate(2), 0.15);
  EXPECT_DOUBLE_EQ(estimate.Rate(8), 0.85);
  Repeat(20, estimate, 2, 4, 4);
  EXPECT_GT(estimate.Rate(2), 0.75);
}

TEST(AcceptanceEstimate, WhatIsNotTriedReturnsToThePrior) {
  AcceptanceEstimate estimate(2, 8);
  Repeat(20, estimate, 5, 1, 0);
  const double learnt = estimate.Rate(5);
  for (int i = 0; i < 200; ++i) estimate.Skip(5);
  EXPECT_GT(estimate.Rate(5), learnt + 0.3);
}

TEST(AcceptanceEstimate, BeginsWithTheGainsOfTheTunedTree) {
  // The most valuable nodes first; (0, 0) and (1, 0) have the same rate, 0.4.
  const TreeSpec tree({-1, 0, 0, 1, 1, 2});
  const Numbers gains = {0.5, 0.25, 0.2, 0.05, 0.1};
  const AcceptanceEstimate estimate(0, 0, AcceptanceRates(tree, gains));
  ExpectNear(Gains(estimate, tree), gains);
  // The same places of a smaller tree, and of one with another order.
  ExpectNear(Gains(estimate, TreeSpec::Chain(2)), {0.5, 0.2});
  ExpectNear(Gains(estimate, TreeSpec({-1, 0, 1, 1, 0})), {0.5, 0.2, 0.05, 0.25});
}

TEST(AcceptanceEstimate, WhatWasNotMeasuredIsTakenFromItsNeighbours) {
  const AcceptanceEstimate estimate(0, 0, AcceptanceRates(TreeSpec::Chain(2), Numbers{0.6, 0.3}));
  ExpectNear(Gains(estimate, TreeSpec::Chain(4)), {0.6, 0.3, 0.15, 0.075});
  const Numbers siblings = Gains(estimate, TreeSpec({-1, 0, 0}));
  EXPECT_DOUBLE_EQ(siblings[0] + siblings[1], 0.6);
  EXPECT_GT(siblings[0], siblings[1]);
}

TEST(AcceptanceEstimate, LearnsFromWhatWasMeasuredOnAndKeepsItsProfile) {
  const AcceptanceRates measured(TreeSpec::Chain(2), Numbers{0.6, 0.18});
  AcceptanceEstimate good(0, 0, measured), bad(0, 0, measured);
  Repeat(20, good, 0, 2, 1);
  EXPECT_GT(good.Rate(0, 1), 0.6);
  EXPECT_GT(good.Rate(0, 1), good.Rate(0, 2) + 0.25);
  Repeat(20, bad, 0, 1, 0);
  EXPECT_LT(bad.Rate(0, 1), 0.15);
  EXPECT_EQ(bad.Rate(0, 2), 0);
}

TEST(AcceptanceEstimate, DraftsThatWereNeverAcceptedAreTriedAgainLater) {
  AcceptanceEstimate estimate(2, 8, AcceptanceRates(TreeSpec::Chain(1), Numbers{0}));
  for (int length = 2; length <= 8; ++length) EXPECT_EQ(estimate.Rate(length), 0) << length;
  EXPECT_EQ(Gains(estimate, TreeSpec::Chain(3), 8), Numbers(3));
  for (int i = 0; i < 200; ++i) estimate.Skip(8);
  EXPECT_GT(estimate.Rate(8), 0.5);
  EXPECT_EQ(estimate.Rate(2), 0);
}

TEST(AcceptanceEstimate, LongerMatchesAreMoreReliableThanWhatWasMeasured) {
  const AcceptanceEstimate estimate(2, 8, AcceptanceRates(TreeSpec::Chain(1), Numbers{0.3}));
  EXPECT_NEAR(estimate.Rate(2), 0.3, 1e-12);
  EXPECT_LT(estimate.Rate(2), estimate.Rate(5));
  EXPECT_LT(estimate.Rate(5), estimate.Rate(8));
  EXPECT_NEAR(estimate.Rate(8), 0.3 * 0.85 / (0.3 * 0.85 + 0.7 * 0.15), 1e-12);
  const AcceptanceEstimate sure(2, 8, AcceptanceRates(TreeSpec::Chain(1), Numbers{1}));
  EXPECT_EQ(sure.Rate(2), 1);
}

}  // namespace
}  // namespace ptgc
