#include <gtest/gtest.h>

#include <vector>

#include "counted_new.h"
#include "drafters/lookahead_drafter.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

Tokens FoundIn(LookaheadPool& pool, TokenId first) {
  Tokens found;
  for (const std::size_t ngram : pool.Find(first)) {
    const std::span<const TokenId> rest = pool.Rest(ngram);
    found.insert(found.end(), rest.begin(), rest.end());
  }
  return found;
}

TEST(LookaheadPool, KeepsTheNewestOfEachFirstToken) {
  LookaheadPool pool(3, 2, 100);
  pool.Add(1, Tokens{2, 3});
  pool.Add(1, Tokens{4, 5});
  pool.Add(7, Tokens{8, 9});
  EXPECT_EQ(FoundIn(pool, 1), (Tokens{4, 5, 2, 3}));
  pool.Add(1, Tokens{2, 3});  // Becomes the newest.
  EXPECT_EQ(FoundIn(pool, 1), (Tokens{2, 3, 4, 5}));
  pool.Add(1, Tokens{6, 6});
  EXPECT_EQ(FoundIn(pool, 1), (Tokens{6, 6, 2, 3}));
  EXPECT_EQ(FoundIn(pool, 7), (Tokens{8, 9}));
  EXPECT_EQ(FoundIn(pool, 2), Tokens{});
  pool.Clear();
  EXPECT_EQ(FoundIn(pool, 1), Tokens{});
}

TEST(LookaheadPool, OldestMakesWayWhenItIsFull) {
  LookaheadPool pool(2, 2, 3);
  for (const TokenId token : {1, 2, 3}) pool.Add(token, Tokens{token});
  pool.Add(1, Tokens{1});
  pool.Add(4, Tokens{4});
  EXPECT_EQ(FoundIn(pool, 1), Tokens{1});
  EXPECT_EQ(FoundIn(pool, 2), Tokens{});
  EXPECT_EQ(FoundIn(pool, 4), Tokens{4});
}

LookaheadParameters Sizes(int window_size, int ngram_size, int num_branches) {
  LookaheadParameters parameters;
  parameters.window_size = window_size;
  parameters.ngram_size = ngram_size;
  parameters.num_branches = num_branches;
  return parameters;
}

struct Fixture {
  LookaheadDrafter drafter{2, Sizes(3, 3, 2)};
  Proposal proposal{9};
  Tokens text = {1, 2};

  Tokens Draft(int limit = 9, int verified = 9) {
    DraftRow row = {0, text, static_cast<int>(text.size()) - 1, limit, &proposal};
    proposal.Clear();
    drafter.Propose(row);
    row.limit = verified;
    drafter.Draft({&row, 1});
    return {proposal.tokens().begin(), proposal.tokens().end()};
  }
  // A run that accepted nothing: the answers at the root, and at each draft.
  void Answer(const Tokens& answers) {
    const Tokens read = {text.back()};
    Observation seen;
    seen.read = read;
    seen.proposal = &proposal;
    seen.answers = answers;
    seen.bonus = answers[0];
    drafter.Observe(0, seen);
    text.push_back(answers[0]);
  }
};

TEST(LookaheadDrafter, FillsItsWindowThenHarvestsIt) {
  Fixture fixture;
  // One level with a column more than the window; nothing of it can be accepted.
  EXPECT_EQ(fixture.Draft(), (Tokens{2, 1, 2}));
  EXPECT_EQ(fixture.proposal.num_acceptable(), 0);
  EXPECT_EQ(fixture.proposal.tree().parent(3), 2);
  fixture.Answer({10, 11, 12, 13});
  // Two levels: after 10 come 1, 2; and below each column 11, 12, 13.
  EXPECT_EQ(fixture.Draft(), (Tokens{1, 2, 11, 12, 13}));
  const TreeSpec& tree = fixture.proposal.tree();
  EXPECT_EQ(std::vector({tree.parent(2), tree.parent(3), tree.parent(4), tree.parent(5)}),
            (std::vector{1, 0, 1, 2}));
  fixture.Answer({1, 0, 0, 20, 21, 22});
  // The pool has 10 11 20, 1 12 21 and 2 13 22; the text now ends with 1. The window's levels are
  // 12 13 and 20 21 22; its second column is the n-gram that is verified.
  EXPECT_EQ(fixture.Draft(), (Tokens{12, 21, 13, 20, 22}));
  EXPECT_EQ(fixture.proposal.num_acceptable(), 2);
  EXPECT_EQ(std::vector({tree.parent(2), tree.parent(3), tree.parent(4), tree.parent(5)}),
            (std::vector{1, 1, 0, 3}));
  EXPECT_EQ(fixture.proposal.match_length(), 1);
}

TEST(LookaheadDrafter, EqualTokensAfterEqualTextAreOneRow) {
  Fixture fixture;
  fixture.Draft();
  fixture.Answer({10, 11, 12, 13});
  fixture.Draft();
  fixture.Answer({10, 0, 0, 20, 21, 22});
  // The branch 11 20 of the first column is not in the window 12 20, 13 21, 22 ...
  EXPECT_EQ(fixture.Draft(), (Tokens{11, 20, 12, 13, 20, 21, 22}));
  fixture.Answer({10, 0, 0, 0, 0, 11, 24, 25});
  // ... whose next first level is 10 21 22, with 11 below 10, as in the branch.
  EXPECT_EQ(fixture.Draft(), (Tokens{20, 11, 11, 20, 21, 22, 24, 25}));
  EXPECT_EQ(fixture.proposal.num_acceptable(), 4);
}

TEST(LookaheadDrafter, WindowIsRunWholeOrNotAtAll) {
  Fixture fixture;
  EXPECT_EQ(fixture.Draft(2), Tokens{});
  EXPECT_EQ(fixture.Draft(9, 2), Tokens{});
  fixture.Answer({10});  // A plain round.
  EXPECT_EQ(fixture.Draft(), (Tokens{2, 1, 2}));
  fixture.Answer({10, 11, 12, 13});
  fixture.Draft();
  fixture.Answer({10, 0, 0, 20, 21, 22});
  EXPECT_EQ(fixture.Draft(6), (Tokens{11, 20}));
  EXPECT_EQ(fixture.Draft(9, 1), Tokens{11});
}

TEST(LookaheadDrafter, CopyHasTheSameWindowAndANewTextHasNone) {
  Fixture fixture;
  fixture.Draft();
  fixture.Answer({10, 11, 12, 13});
  fixture.drafter.CopyRow(0, 1);
  fixture.drafter.Begin(0);
  EXPECT_EQ(fixture.Draft(), (Tokens{1, 2, 10}));
  fixture.drafter.CopyRow(1, 0);
  EXPECT_EQ(fixture.Draft(), (Tokens{1, 2, 11, 12, 13}));
}

TEST(LookaheadDrafter, WindowOfFewColumnsAndManyLevelsFitsItsTree) {
  LookaheadDrafter drafter(1, Sizes(2, 6, 1));
  Proposal proposal(16);
  const Tokens text = {3};
  for (int round = 0; round < 8; ++round) {
    proposal.Clear();
    const DraftRow row = {0, text, 0, 16, &proposal};
    drafter.Propose(row);
    EXPECT_GT(proposal.size(), proposal.num_acceptable());
    Tokens answers;
    for (int node = 0; node <= proposal.size(); ++node) answers.push_back(100 * round + node);
    Observation seen;
    seen.read = text;
    seen.proposal = &proposal;
    seen.answers = answers;
    seen.bonus = 1;
    const long before = NumAllocations();
    drafter.Observe(0, seen);
    EXPECT_EQ(NumAllocations(), before);
  }
  EXPECT_GT(proposal.num_acceptable(), 0);
}

}  // namespace
}  // namespace ptgc
