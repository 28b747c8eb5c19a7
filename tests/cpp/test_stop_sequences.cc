#include <gtest/gtest.h>

#include "stop_sequences.h"

namespace ptgc::capi {
namespace {

using Tokens = std::vector<TokenId>;

TEST(StopSequences, FirstToEndIsFound) {
  const StopSequences stops({{3, 4}, {9}});
  EXPECT_EQ(stops.Find(Tokens{1, 2, 3, 4, 9}, 0), 2U);
  EXPECT_EQ(stops.Find(Tokens{9, 3, 4}, 0), 0U);
  EXPECT_EQ(stops.Find(Tokens{1, 3, 5, 4}, 0), std::nullopt);
}

TEST(StopSequences, LongestOfThoseThatEndTogetherIsFound) {
  const StopSequences stops({{4}, {2, 3, 4}, {3, 4}});
  EXPECT_EQ(stops.Find(Tokens{1, 2, 3, 4}, 3), 1U);
}

TEST(StopSequences, OneThatBeganBeforeTheNewTokensIsFound) {
  const StopSequences stops({{1, 2, 3}});
  EXPECT_EQ(stops.Find(Tokens{7, 1, 2, 3}, 3), 1U);
  EXPECT_EQ(stops.Find(Tokens{7, 1, 2, 3}, 4), std::nullopt);
}

TEST(StopSequences, TokensThatMayBeginOneAreNotCertain) {
  const StopSequences stops({{1, 2, 1, 3}, {5, 5}});
  EXPECT_EQ(stops.Certain(Tokens{7, 8}), 2U);
  EXPECT_EQ(stops.Certain(Tokens{7, 1}), 1U);
  EXPECT_EQ(stops.Certain(Tokens{7, 1, 2, 1}), 1U);
  EXPECT_EQ(stops.Certain(Tokens{7, 1, 2, 1, 2}), 3U);
  EXPECT_EQ(stops.Certain(Tokens{1, 2, 5}), 2U);
  EXPECT_EQ(stops.Certain(Tokens{}), 0U);
}

TEST(StopSequences, WithoutAnyAllIsCertain) {
  const StopSequences stops({});
  EXPECT_EQ(stops.Certain(Tokens{1, 2, 3}), 3U);
  EXPECT_EQ(stops.Find(Tokens{1, 2, 3}, 0), std::nullopt);
}

}  // namespace
}  // namespace ptgc::capi
