#include <gtest/gtest.h>

#include <vector>

#include "counted_new.h"
#include "drafters/recycling_drafter.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

constexpr std::int64_t kVocab = 10;
constexpr int kCandidates = 2;
//       0
//     /   \      .
//    1     2
//   / \    |
//  3   4   5
const TreeSpec kTree({-1, 0, 0, 1, 1, 2});

// The two tokens that come after each token of a run: n and n + 1 for the n-th number given.
Tokens After(const Tokens& first) {
  Tokens ids;
  for (const TokenId token : first) ids.insert(ids.end(), {token, token + 1});
  return ids;
}

struct Fixture {
  RecyclingDrafter drafter{kTree, kVocab, kCandidates};
  Proposal proposal{5};

  // A run that read a text, or a part of it.
  void Read(const Tokens& read, const Tokens& first) {
    const Tokens top_ids = After(first);
    Observation seen;
    seen.read = read;
    seen.top_ids = top_ids;
    drafter.Observe(0, seen);
  }
  // A run that verified the proposal.
  void Verify(TokenId root, const Tokens& first, std::vector<int> path) {
    const Tokens read = {root}, top_ids = After(first);
    Observation seen;
    seen.read = read;
    seen.proposal = &proposal;
    seen.top_ids = top_ids;
    seen.path = path;
    seen.bonus = 1;
    drafter.Observe(0, seen);
  }
  Tokens Draft(TokenId last, int limit = 5) {
    const Tokens text = {8, last};
    const DraftRow row = {0, text, 1, limit, &proposal};
    proposal.Clear();
    const int offered = drafter.Propose(row);
    EXPECT_EQ(offered, proposal.size());
    drafter.Draft({&row, 1});
    return {proposal.tokens().begin(), proposal.tokens().end()};
  }
};

TEST(RecyclingDrafter, FillsItsTreeFromWhatFollowedEachToken) {
  Fixture fixture;
  EXPECT_EQ(fixture.Draft(3), Tokens{});
  fixture.Read({3, 5, 6}, {5, 0, 3});
  EXPECT_EQ(fixture.Draft(3), (Tokens{5, 6, 0, 1, 3}));
  EXPECT_EQ(fixture.proposal.tree().parent(4), 1);
  EXPECT_EQ(fixture.proposal.tree().parent(5), 2);
  EXPECT_EQ(fixture.proposal.match_length(), 1);
  EXPECT_EQ(fixture.Draft(3, 2), (Tokens{5, 6}));
}

TEST(RecyclingDrafter, LeavesOutWhatItDoesNotKnow) {
  Fixture fixture;
  fixture.Read({3, 6}, {5, 2});
  EXPECT_EQ(fixture.Draft(3), (Tokens{5, 6, 2}));  // Nothing is known of 5.
  EXPECT_EQ(fixture.proposal.tree().parent(3), 2);
  fixture.Read({3}, {9});  // 9, and 10, which is no token.
  EXPECT_EQ(fixture.Draft(3), Tokens{9});
}

TEST(RecyclingDrafter, IdsThatAreNoTokensAreUnknown) {
  Fixture fixture;
  fixture.Read({-1, kVocab, 1 << 30}, {1, 2, 3});
  EXPECT_EQ(fixture.Draft(kVocab), Tokens{});
  EXPECT_EQ(fixture.Draft(-1), Tokens{});
}

TEST(RecyclingDrafter, RowsOfTheTextCountMoreThanRejectedDrafts) {
  Fixture fixture;
  fixture.Read({3, 5, 6}, {5, 3, 5});
  ASSERT_EQ(fixture.Draft(3), (Tokens{5, 6, 3, 4, 5}));
  // Draft 3 is below draft 5, of which one is rejected, too; the root is token 3.
  fixture.Verify(3, {1, 7, 2, 0, 4, 0}, {1});
  EXPECT_EQ(fixture.Draft(3), (Tokens{1, 2}));
  EXPECT_EQ(fixture.Draft(5), (Tokens{7, 8}));
  EXPECT_EQ(fixture.Draft(4, 2), (Tokens{4, 5}));  // From a rejected draft.
}

TEST(RecyclingDrafter, AllTextsShareWhatIsKnown) {
  Fixture fixture;
  fixture.Read({3}, {5});
  fixture.drafter.Begin(0);
  fixture.drafter.Truncate(0, 0);
  EXPECT_EQ(fixture.Draft(3), (Tokens{5, 6}));
}

TEST(RecyclingDrafter, AllocatesNothing) {
  Fixture fixture;
  fixture.Read({3, 5, 6}, {5, 3, 5});
  const Tokens text = {3}, top_ids = After({1, 7, 2, 0, 4, 0});
  const DraftRow row = {0, text, 0, 5, &fixture.proposal};
  Observation seen;
  seen.read = text;
  seen.proposal = &fixture.proposal;
  seen.top_ids = top_ids;
  const long before = NumAllocations();
  fixture.drafter.Propose(row);
  fixture.drafter.Draft({&row, 1});
  fixture.drafter.Observe(0, seen);
  EXPECT_EQ(NumAllocations(), before);
  EXPECT_EQ(fixture.proposal.size(), 5);
}

}  // namespace
}  // namespace ptgc
