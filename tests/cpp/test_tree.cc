#include <gtest/gtest.h>

#include "base/error.h"
#include "sampling/proposal.h"

namespace ptgc {
namespace {

TEST(TreeSpec, KnowsDepthsAndAncestors) {
  const TreeSpec tree({-1, 0, 0, 1, 1});
  EXPECT_FALSE(tree.is_chain());
  EXPECT_EQ(tree.depth(4), 2);
  EXPECT_TRUE(tree.Sees(4, 4));
  EXPECT_TRUE(tree.Sees(4, 1));
  EXPECT_TRUE(tree.Sees(4, 0));
  EXPECT_FALSE(tree.Sees(4, 2));
  EXPECT_FALSE(tree.Sees(4, 3));
}

TEST(TreeSpec, ChainSeesAllBefore) {
  const TreeSpec chain = TreeSpec::Chain(3);
  EXPECT_TRUE(chain.is_chain());
  EXPECT_EQ(chain.num_nodes(), 4);
  EXPECT_EQ(chain.parent(0), -1);
  EXPECT_EQ(chain.parent(3), 2);
  EXPECT_TRUE(chain.Sees(3, 1));
  EXPECT_FALSE(chain.Sees(1, 3));
}

TEST(TreeSpec, RefusesParentAfterChild) {
  EXPECT_THROW(TreeSpec({-1, 2, 0}), Error);
  EXPECT_THROW(TreeSpec({0, 0}), Error);
  EXPECT_THROW(TreeSpec(std::vector<int>{}), Error);
  EXPECT_THROW(TreeSpec({-1, -1}), Error);
}

TEST(TreeSpec, NodesOfAPartAreFoundByTheRanksOnTheirPaths) {
  //        0
  //      /   \    .
  //     1     2
  //    / \    |
  //   3   4   5
  const TreeSpec whole({-1, 0, 0, 1, 1, 2});
  EXPECT_EQ(TreeSpec({-1, 0, 1, 0, 1, 3}).NodesIn(whole), (std::vector<int>{0, 1, 3, 2, 4, 5}));
  EXPECT_EQ(TreeSpec({-1, 0, 0, 0, 3, 2, 2}).NodesIn(whole),
            (std::vector<int>{0, 1, 2, -1, -1, 5, -1}));
  EXPECT_EQ(TreeSpec::Chain(3).NodesIn(whole), (std::vector<int>{0, 1, 3, -1}));
  EXPECT_EQ(TreeSpec({-1, 0, 1, 0}).height(1), 1);
  EXPECT_EQ(TreeSpec({-1, 0, 1, 0}).height(3), 2);
}

TEST(TreeSpec, GrowsAndIsCutBack) {
  TreeSpec tree = TreeSpec::Root(4);
  EXPECT_EQ(tree.Add(0), 1);
  EXPECT_TRUE(tree.is_chain());
  EXPECT_EQ(tree.Add(0), 2);
  EXPECT_EQ(tree.Add(1), 3);
  EXPECT_FALSE(tree.is_chain());
  EXPECT_EQ(tree.height(), 2);
  EXPECT_EQ(tree.rank(2), 1);
  EXPECT_EQ(tree.num_children(0), 2);
  EXPECT_TRUE(tree.Sees(3, 1));
  EXPECT_FALSE(tree.Sees(3, 2));
  tree.Truncate(2);
  EXPECT_TRUE(tree.is_chain());
  EXPECT_EQ(tree.Add(1), 2);
  EXPECT_TRUE(tree.is_chain());
  EXPECT_TRUE(tree.Sees(2, 1));
}

TEST(Proposal, EqualChildrenAreOne) {
  Proposal proposal(4);
  EXPECT_EQ(proposal.Add(0, 7), 1);
  EXPECT_EQ(proposal.Add(0, 8), 2);
  EXPECT_EQ(proposal.Add(1, 8), 3);
  EXPECT_EQ(proposal.Add(0, 8), 2);
  EXPECT_EQ(proposal.size(), 3);
  EXPECT_EQ(proposal.token(3), 8);
  proposal.Truncate(1);
  EXPECT_EQ(proposal.Add(0, 8), 2);
}

TEST(Proposal, DraftsThatAreOnlyRunComeLast) {
  Proposal proposal(4);
  proposal.Add(0, 7);
  EXPECT_EQ(proposal.AddUnaccepted(0, 7), 1);  // May be accepted, as before.
  EXPECT_EQ(proposal.AddUnaccepted(1, 8), 2);
  EXPECT_EQ(proposal.size(), 2);
  EXPECT_EQ(proposal.num_acceptable(), 1);
  proposal.Truncate(0);
  EXPECT_EQ(proposal.num_acceptable(), 0);
}

}  // namespace
}  // namespace ptgc
