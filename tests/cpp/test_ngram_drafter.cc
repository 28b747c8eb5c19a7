#include <gtest/gtest.h>

#include "counted_new.h"
#include "drafters/ngram_drafter.h"
#include "substitute_engine.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

Tokens DraftOf(const Tokens& text, int limit, int min_size = 1, int max_size = 4,
               int* match_length = nullptr, NgramMatch match = NgramMatch::kLatest) {
  Proposal proposal(8);
  NgramDrafter drafter(NgramSizes(min_size, max_size, match));
  const DraftRow row = {0, text, 0, limit, &proposal};
  const int offered = drafter.Propose(row);
  EXPECT_EQ(offered, proposal.size());
  drafter.Draft({&row, 1});
  if (match_length != nullptr) *match_length = proposal.match_length();
  return {proposal.tokens().begin(), proposal.tokens().end()};
}

TEST(NgramDrafter, LongestMatchWins) {
  int match_length = 0;
  const Tokens text = {1, 2, 3, 40, 9, 2, 3, 50, 9, 3, 60, 1, 2, 3};
  EXPECT_EQ(DraftOf(text, 2, 1, 4, &match_length), (Tokens{40, 9}));
  EXPECT_EQ(match_length, 3);
}

TEST(NgramDrafter, MostRecentOfEqualMatchesWins) {
  EXPECT_EQ(DraftOf({2, 3, 40, 8, 2, 3, 50, 9, 2, 3}, 1), (Tokens{50}));
}

TEST(NgramDrafter, MatchIsNoLongerThanItsMaximum) {
  int match_length = 0;
  const Tokens text = {1, 2, 3, 40, 9, 2, 3, 50, 1, 2, 3};
  EXPECT_EQ(DraftOf(text, 1, 1, 2, &match_length), (Tokens{50}));
  EXPECT_EQ(match_length, 2);
}

TEST(NgramDrafter, ShorterMatchThanMinimumIsNone) {
  EXPECT_EQ(DraftOf({1, 2, 9, 2}, 4, 2), Tokens{});
  EXPECT_EQ(DraftOf({1, 2, 9, 1, 2}, 1, 2), (Tokens{9}));
}

TEST(NgramDrafter, ContinuationRepeatsItselfAtTheEnd) {
  EXPECT_EQ(DraftOf({7, 1, 2, 1, 2}, 5, 2), (Tokens{1, 2, 1, 2, 1}));
  EXPECT_EQ(DraftOf({5, 5}, 3), (Tokens{5, 5, 5}));
}

TEST(NgramDrafter, MatchAtTheStartIsFound) {
  EXPECT_EQ(DraftOf({1, 2, 9, 8, 1, 2}, 2, 2), (Tokens{9, 8}));
}

TEST(NgramDrafter, NothingToFindInShortText) {
  EXPECT_EQ(DraftOf({}, 4), Tokens{});
  EXPECT_EQ(DraftOf({1}, 4), Tokens{});
  EXPECT_EQ(DraftOf({1, 2, 3}, 4), Tokens{});
}

// As transformers' prompt lookup does.
TEST(NgramDrafter, FirstMatchGoesToTheEndOfTheText) {
  const auto first = [](const Tokens& text, int limit, int max_size) {
    return DraftOf(text, limit, 1, max_size, nullptr, NgramMatch::kFirst);
  };
  EXPECT_EQ(first({2, 3, 40, 8, 2, 3, 50, 9, 2, 3}, 2, 2), (Tokens{40, 8}));
  EXPECT_EQ(first({7, 1, 2, 1, 2}, 5, 2), (Tokens{1, 2}));
  EXPECT_EQ(first({5, 5}, 3, 4), (Tokens{5}));
  EXPECT_EQ(first({1, 9, 2, 1, 8}, 3, 4), Tokens{});
}

TEST(NgramDrafter, AllocatesNothing) {
  Tokens text;
  for (int i = 0; i < 2000; ++i) text.push_back(i % 611);
  Proposal proposal(15);
  NgramDrafter drafter(NgramSizes(2, 8));
  const long before = NumAllocations();
  drafter.Propose({0, text, 0, 15, &proposal});
  EXPECT_EQ(NumAllocations(), before);
  EXPECT_EQ(proposal.size(), 15);
}

}  // namespace
}  // namespace ptgc
