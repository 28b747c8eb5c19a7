#include <gtest/gtest.h>

#include <vector>

#include "counted_new.h"
#include "drafters/jacobi_drafter.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

struct Fixture {
  JacobiDrafter drafter{2, 4};
  Proposal proposal{4};

  Tokens Draft(const Tokens& text, int limit = 4, int verified = 4) {
    DraftRow row = {0, text, static_cast<int>(text.size()) - 1, limit, &proposal};
    proposal.Clear();
    EXPECT_EQ(drafter.Propose(row), limit);
    row.limit = verified;
    drafter.Draft({&row, 1});
    return {proposal.tokens().begin(), proposal.tokens().end()};
  }
  // A run that read the end of a text of `length` tokens, and the drafts.
  void Answer(std::size_t length, const Tokens& answers, std::vector<int> path) {
    const Tokens read = {0};
    Observation seen;
    seen.committed = length - 1;
    seen.read = read;
    seen.proposal = &proposal;
    seen.answers = answers;
    seen.path = path;
    seen.bonus = answers[path.size()];
    drafter.Observe(0, seen);
  }
};

TEST(JacobiDrafter, StartsWithCopiesOfTheLastToken) {
  Fixture fixture;
  EXPECT_EQ(fixture.Draft({5, 7}), (Tokens{7, 7, 7, 7}));
  EXPECT_EQ(fixture.Draft({5, 7}, 2), (Tokens{7, 7}));
}

TEST(JacobiDrafter, AnswersAreTheNextDrafts) {
  Fixture fixture;
  fixture.Draft({5, 7});
  fixture.Answer(2, {1, 2, 3, 4, 5}, {});
  EXPECT_EQ(fixture.Draft({5, 7, 1}), (Tokens{2, 3, 4, 5}));
  fixture.Answer(3, {2, 3, 8, 9, 6}, {1, 2});
  EXPECT_EQ(fixture.Draft({5, 7, 1, 2, 3, 8}), (Tokens{9, 6, 6, 6}));
}

TEST(JacobiDrafter, GuessesThatWereNotRunMoveUp) {
  Fixture fixture;
  fixture.Draft({5, 7});
  fixture.Answer(2, {1, 2, 3, 4, 5}, {});
  EXPECT_EQ(fixture.Draft({5, 7, 1}, 4, 2), (Tokens{2, 3}));
  fixture.Answer(3, {2, 6, 7}, {1});
  EXPECT_EQ(fixture.Draft({5, 7, 1, 2, 6}), (Tokens{7, 5, 5, 5}));
  fixture.proposal.Clear();  // A plain round.
  fixture.Answer(5, {7}, {});
  EXPECT_EQ(fixture.Draft({5, 7, 1, 2, 6, 7}), (Tokens{5, 5, 5, 5}));
}

TEST(JacobiDrafter, ForgetsATextThatWasChangedAndFollowsACopy) {
  Fixture fixture;
  fixture.Draft({5, 7});
  fixture.Answer(2, {1, 2, 3, 4, 5}, {});
  fixture.drafter.CopyRow(0, 1);
  EXPECT_EQ(fixture.Draft({5, 7, 1, 8}), (Tokens{8, 8, 8, 8}));
  fixture.drafter.CopyRow(1, 0);
  EXPECT_EQ(fixture.Draft({5, 7, 1}), (Tokens{2, 3, 4, 5}));
  fixture.drafter.Truncate(0, 2);
  EXPECT_EQ(fixture.Draft({5, 7, 1}), (Tokens{1, 1, 1, 1}));
}

TEST(JacobiDrafter, AllocatesNothing) {
  Fixture fixture;
  const Tokens text = {5, 7}, answers = {1, 2, 3, 4, 5}, read = {7};
  const DraftRow row = {0, text, 1, 4, &fixture.proposal};
  Observation seen;
  seen.committed = 1;
  seen.read = read;
  seen.proposal = &fixture.proposal;
  seen.answers = answers;
  seen.bonus = 1;
  const long before = NumAllocations();
  fixture.drafter.Propose(row);
  fixture.drafter.Draft({&row, 1});
  fixture.drafter.Observe(0, seen);
  EXPECT_EQ(NumAllocations(), before);
}

}  // namespace
}  // namespace ptgc
