#include <gtest/gtest.h>

#include <vector>

#include "counted_new.h"
#include "drafters/suffix_drafter.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

struct Fixture {
  static SuffixParameters Parameters(int shortest, double per_match, double min_probability) {
    SuffixParameters parameters;
    parameters.shortest_match = shortest;
    parameters.longest_match = 16;
    parameters.drafts_per_match = per_match;
    parameters.min_probability = min_probability;
    return parameters;
  }
  explicit Fixture(int shortest = 1, double per_match = 8, double min_probability = 0)
      : drafter(Parameters(shortest, per_match, min_probability), 2, 64) {}

  Tokens DraftOf(const Tokens& text, int limit, int row = 0) {
    proposal.Clear();
    const DraftRow asked = {row, text, 0, limit, &proposal};
    const int offered = drafter.Propose(asked);
    EXPECT_EQ(offered, proposal.size());
    drafter.Draft({&asked, 1});
    return {proposal.tokens().begin(), proposal.tokens().end()};
  }

  SuffixDrafter drafter;
  Proposal proposal = Proposal(8);
};

Tokens DraftOf(const Tokens& text, int limit) { return Fixture().DraftOf(text, limit); }

TEST(SuffixDrafter, LongestMatchWins) {
  Fixture fixture;
  const Tokens text = {1, 2, 3, 40, 9, 2, 3, 50, 9, 3, 60, 1, 2, 3};
  EXPECT_EQ(fixture.DraftOf(text, 2), (Tokens{40, 9}));
  EXPECT_EQ(fixture.proposal.match_length(), 3);
}

TEST(SuffixDrafter, MostFrequentContinuationWins) {
  EXPECT_EQ(DraftOf({2, 40, 1, 2, 40, 5, 2, 50, 9, 2}, 1), (Tokens{40}));
}

TEST(SuffixDrafter, LatestOfEquallyFrequentContinuationsWins) {
  EXPECT_EQ(DraftOf({2, 3, 40, 8, 2, 3, 50, 9, 2, 3}, 1), (Tokens{50}));
}

TEST(SuffixDrafter, ShorterMatchThanMinimumIsNone) {
  EXPECT_EQ(Fixture(2).DraftOf({1, 2, 9, 2}, 4), Tokens{});
  EXPECT_EQ(Fixture(2).DraftOf({1, 2, 9, 1, 2}, 1), (Tokens{9}));
}

TEST(SuffixDrafter, LongerMatchesAreContinuedFurther) {
  const Tokens once = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1}, twice = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2};
  EXPECT_EQ(Fixture(1, 2).DraftOf(once, 8), (Tokens{2, 3}));
  EXPECT_EQ(Fixture(1, 2).DraftOf(twice, 8), (Tokens{3, 4, 5, 6}));
  EXPECT_EQ(Fixture(1, 0.5).DraftOf(once, 8), Tokens{});
  EXPECT_EQ(Fixture(1, 0.5).DraftOf(twice, 8), (Tokens{3}));
}

TEST(SuffixDrafter, DraftsEndWhereTheirPathIsRare) {
  // Behind 1 2: twice 3, once 4; behind 1 2 3: once 5, once 6.
  const Tokens text = {1, 2, 3, 5, 1, 2, 4, 7, 1, 2, 3, 6, 9, 1, 2};
  EXPECT_EQ(Fixture(1, 8, 0.3).DraftOf(text, 3), (Tokens{3, 6, 9}));
  EXPECT_EQ(Fixture(1, 8, 0.5).DraftOf(text, 3), (Tokens{3}));
  EXPECT_EQ(Fixture(1, 8, 0.7).DraftOf(text, 3), Tokens{});
}

TEST(SuffixDrafter, ContinuationRepeatsItselfAtTheEnd) {
  EXPECT_EQ(DraftOf({7, 1, 2, 1, 2}, 5), (Tokens{1, 2, 1, 2, 1}));
  EXPECT_EQ(DraftOf({5, 5}, 3), (Tokens{5, 5, 5}));
}

TEST(SuffixDrafter, NothingToFindInShortText) {
  EXPECT_EQ(DraftOf({}, 4), Tokens{});
  EXPECT_EQ(DraftOf({1}, 4), Tokens{});
  EXPECT_EQ(DraftOf({1, 2, 3}, 4), Tokens{});
  EXPECT_EQ(DraftOf({1, 2, 1}, 0), Tokens{});
}

TEST(SuffixDrafter, TextThatWasCutIsForgotten) {
  Fixture fixture;
  EXPECT_EQ(fixture.DraftOf({1, 2, 9, 9, 9, 1}, 1), (Tokens{2}));
  fixture.drafter.Truncate(0, 8);  // More than was read.
  fixture.drafter.Truncate(0, 2);
  EXPECT_EQ(fixture.DraftOf({1, 2, 1}, 2), (Tokens{2, 1}));
  fixture.drafter.Begin(0);
  EXPECT_EQ(fixture.DraftOf({8, 1}, 2), Tokens{});
}

TEST(SuffixDrafter, CopiedRowGoesOnByItself) {
  Fixture fixture;
  fixture.DraftOf({1, 2, 3, 1}, 1, 0);
  fixture.drafter.CopyRow(0, 1);
  EXPECT_EQ(fixture.DraftOf({1, 2, 3, 1, 2}, 1, 1), (Tokens{3}));
  EXPECT_EQ(fixture.DraftOf({1, 2, 3, 1, 5, 1}, 1, 0), (Tokens{5}));
  EXPECT_EQ(fixture.DraftOf({1, 2, 3, 1, 2, 3}, 1, 1), (Tokens{1}));
}

TEST(SuffixDrafter, AllocatesNothing) {
  Tokens text;
  for (int i = 0; i < 60; ++i) text.push_back(i % 21);
  Fixture fixture;
  const long before = NumAllocations();
  for (std::size_t length = 0; length < text.size(); ++length) {
    fixture.proposal.Clear();
    const DraftRow row = {0, std::span(text).first(length), 0, 8, &fixture.proposal};
    fixture.drafter.Propose(row);
    if (length == 40) fixture.drafter.CopyRow(0, 1);
    if (length == 50) fixture.drafter.Truncate(0, 20);
  }
  EXPECT_EQ(NumAllocations(), before);
  EXPECT_EQ(fixture.proposal.size(), 8);
}

}  // namespace
}  // namespace ptgc
