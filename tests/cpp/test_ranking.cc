#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "reference_distribution.h"
#include "sampling/ranking.h"

namespace ptgc {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// All places of a row, by sorting it.
std::vector<Place> Places(const std::vector<float>& logits, const Ranking& ranking) {
  std::vector<Candidate> order;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (ranking.Mass(logits[i]) > 0) order.push_back({logits[i], static_cast<std::int32_t>(i)});
  }
  std::sort(order.begin(), order.end(), Precedes);
  std::vector<Place> places;
  double mass = 0;
  for (const Candidate& token : order) {
    mass += ranking.Mass(token.value);
    places.push_back({token, mass});
  }
  return places;
}

struct Case {
  std::int64_t size;   // Of the row.
  Spread spread;       // Of its logits.
  double temperature;  // Of the masses.
};

class RankingOrder : public testing::TestWithParam<Case> {};

TEST_P(RankingOrder, EveryPlaceIsThatOfTheSortedRow) {
  const auto [size, spread, temperature] = GetParam();
  Ranking ranking(size);
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const std::vector<float> logits = MadeUpLogits(size, spread, seed);
    ASSERT_TRUE(ranking.Read(logits, temperature));
    const std::vector<Place> places = Places(logits, ranking);
    EXPECT_EQ(ranking.largest().id, places[0].token.id);
    EXPECT_NEAR(ranking.Total(), places.back().mass, 1e-12 * places.back().mass);
    const std::size_t step = std::max<std::size_t>(1, places.size() / 50);
    for (std::size_t i = 0; i < places.size(); i += step) {
      const Place& place = places[i];
      const double own = ranking.Mass(place.token.value);
      const Place by_rank = ranking.AtRank(static_cast<std::int64_t>(i) + 1);
      EXPECT_EQ(by_rank.token.id, place.token.id);
      EXPECT_NEAR(by_rank.mass, place.mass, 1e-12 * place.mass);
      // Masses whose share is lost in rounding are no places of their own.
      if (own < 1e-9 * place.mass) continue;
      EXPECT_EQ(ranking.AtMass(place.mass - own / 2).token.id, place.token.id);
      const Place by_value = ranking.AtValue(static_cast<double>(place.token.value) - 1e-12);
      EXPECT_EQ(by_value.token.value, place.token.value);
      EXPECT_GE(by_value.token.id, place.token.id);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Rows, RankingOrder,
    testing::Values(Case{1, Spread::kNormal, 1}, Case{2, Spread::kTied, 1},
                    Case{63, Spread::kNormal, 1}, Case{129, Spread::kFlat, 1},
                    Case{1000, Spread::kMasked, 1}, Case{1000, Spread::kTied, 0.3},
                    Case{9001, Spread::kNormal, 1}, Case{9001, Spread::kNormal, 0.05},
                    Case{9001, Spread::kNormal, 50}, Case{9001, Spread::kFlat, 1},
                    Case{9001, Spread::kPeaked, 1}, Case{9001, Spread::kTied, 1},
                    Case{9001, Spread::kTied, 5}, Case{9001, Spread::kMasked, 1.5}),
    [](const auto& info) { return "Row" + std::to_string(info.index); });

TEST(Ranking, WhatIsBeyondTheLastIsTheLast) {
  for (const std::int64_t size : {5, 9001}) {
    const std::vector<float> logits = MadeUpLogits(size, Spread::kNormal, 1);
    Ranking ranking(size);
    ASSERT_TRUE(ranking.Read(logits, 1));
    const std::int32_t last = Places(logits, ranking).back().token.id;
    EXPECT_EQ(ranking.AtRank(size + 5).token.id, last);
    EXPECT_EQ(ranking.AtMass(ranking.Total() * 2).token.id, last);
    EXPECT_EQ(ranking.AtValue(-1e30).token.id, last);
  }
}

TEST(Ranking, ValueBetweenLogitsIsTheOneAbove) {
  std::vector<float> logits(9000, 0.0F);
  for (std::size_t i = 0; i < 4000; ++i) logits[i] = 1;
  logits[7] = 3;
  Ranking ranking(9000);
  ASSERT_TRUE(ranking.Read(logits, 1));
  EXPECT_EQ(ranking.AtValue(2.5).token.id, 7);
  EXPECT_EQ(ranking.AtValue(0.5).token.id, 3999);
  EXPECT_EQ(ranking.AtValue(1).token.id, 3999);
  EXPECT_EQ(ranking.AtValue(1 + 1e-12).token.id, 7);
}

TEST(Ranking, EqualTokensStandByTheirIds) {
  const std::vector<float> logits(20000, 2.5F);
  Ranking ranking(20000);
  ASSERT_TRUE(ranking.Read(logits, 1));
  EXPECT_EQ(ranking.Total(), 20000);
  EXPECT_EQ(ranking.AtRank(12345).token.id, 12344);
  EXPECT_EQ(ranking.AtMass(777).token.id, 776);
}

TEST(Ranking, BlocksHaveTheirLargest) {
  const std::vector<float> logits = MadeUpLogits(150, Spread::kNormal, 1);
  Ranking ranking(1000);
  ASSERT_TRUE(ranking.Read(logits, 1));
  ASSERT_EQ(ranking.block_maxima().size(), 3U);
  const auto begin = logits.begin();
  EXPECT_EQ(ranking.block_maxima()[0], *std::max_element(begin, begin + 64));
  EXPECT_EQ(ranking.block_maxima()[1], *std::max_element(begin + 64, begin + 128));
  EXPECT_EQ(ranking.block_maxima()[2], *std::max_element(begin + 128, logits.end()));
}

TEST(Ranking, RowsWithoutAChoiceAreRefused) {
  for (const std::size_t size : {1UL, 5UL, 64UL, 1000UL}) {
    Ranking ranking(1000);
    for (std::size_t at = 0; at < size; at += 1 + size / 7) {
      std::vector<float> logits(size, 1.0F);
      logits[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_FALSE(ranking.Read(logits, 1));
      logits[at] = kInfinity;
      EXPECT_FALSE(ranking.Read(logits, 1));
    }
    EXPECT_FALSE(ranking.Read(std::vector<float>(size, -kInfinity), 1));
    EXPECT_TRUE(ranking.Read(std::vector<float>(size, -3e38F), 1));
  }
  EXPECT_FALSE(Ranking(4).Read({}, 1));
}

}  // namespace
}  // namespace ptgc
