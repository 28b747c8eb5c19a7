#include <gtest/gtest.h>

#include "sampling/acceptance.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

Proposal Propose(const TreeSpec& tree, const Tokens& tokens) {
  Proposal proposal(tree.num_nodes() - 1);
  std::vector<int> nodes = {0};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const int parent = tree.parent(static_cast<int>(i) + 1);
    nodes.push_back(proposal.Add(nodes[static_cast<std::size_t>(parent)], tokens[i]));
  }
  return proposal;
}

struct Case {
  const char* name;          // What happens.
  std::vector<int> parents;  // The tree.
  Tokens drafts;             // Token of each node but the root.
  Tokens next_ids;           // The target's answer at each node.
  std::vector<int> path;     // What must be accepted ...
  TokenId bonus;             // ... and what follows it.
};

class KeptPath : public testing::TestWithParam<Case> {};

TEST_P(KeptPath, IsTheLongestThatAgrees) {
  const Case& given = GetParam();
  const Proposal proposal = Propose(TreeSpec(given.parents), given.drafts);
  Acceptance acceptance(proposal.capacity());
  acceptance.Keep(proposal, given.next_ids);
  EXPECT_EQ(std::vector<int>(acceptance.path().begin(), acceptance.path().end()), given.path);
  EXPECT_EQ(acceptance.bonus(), given.bonus);
}

INSTANTIATE_TEST_SUITE_P(
    Proposals, KeptPath,
    testing::Values(Case{"NoDraft", {-1}, {}, {9}, {}, 9},
                    Case{"AllOfAChain", {-1, 0, 1}, {5, 6}, {5, 6, 7}, {1, 2}, 7},
                    Case{"PartOfAChain", {-1, 0, 1}, {5, 6}, {5, 8, 7}, {1}, 8},
                    Case{"FirstIsWrong", {-1, 0, 1}, {5, 6}, {4, 6, 7}, {}, 4},
                    Case{
                        "SecondBranch", {-1, 0, 0, 1, 2}, {5, 6, 1, 2}, {6, 0, 2, 0, 3}, {2, 4}, 3},
                    Case{"EqualSiblings", {-1, 0, 0, 2}, {5, 5, 1}, {5, 1, 7}, {1, 2}, 7},
                    Case{"ShortProposal", {-1, 0, 1, 2}, {5}, {5, 6}, {1}, 6}),
    [](const testing::TestParamInfo<Case>& info) { return std::string(info.param.name); });

TEST(KeptPath, EndsBeforeDraftsThatAreOnlyRun) {
  Proposal proposal(3);
  const int first = proposal.Add(0, 1);
  proposal.AddUnaccepted(first, 2);
  proposal.AddUnaccepted(0, 5);
  Acceptance acceptance(3);
  acceptance.Keep(proposal, Tokens{1, 2, 3, 4});
  EXPECT_EQ(acceptance.path().size(), 1U);
  EXPECT_EQ(acceptance.bonus(), 2);
  acceptance.Keep(proposal, Tokens{5, 2, 3, 4});
  EXPECT_TRUE(acceptance.path().empty());
  EXPECT_EQ(acceptance.bonus(), 5);
}

TEST(KeptPath, ReusesItsStorage) {
  Acceptance acceptance(2);
  acceptance.Keep(Propose(TreeSpec::Chain(2), {1, 2}), Tokens{1, 2, 3});
  acceptance.Keep(Propose(TreeSpec::Chain(2), {1, 2}), Tokens{4, 2, 3});
  EXPECT_TRUE(acceptance.path().empty());
  EXPECT_EQ(acceptance.bonus(), 4);
}

}  // namespace
}  // namespace ptgc
