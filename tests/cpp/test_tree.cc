#include <gtest/gtest.h>

#include "base/error.h"
#include "sampling/tree.h"

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
  EXPECT_EQ(chain.parents(), (std::vector<int>{-1, 0, 1, 2}));
  EXPECT_TRUE(chain.Sees(3, 1));
  EXPECT_FALSE(chain.Sees(1, 3));
}

TEST(TreeSpec, RefusesParentAfterChild) {
  EXPECT_THROW(TreeSpec({-1, 2, 0}), Error);
  EXPECT_THROW(TreeSpec({0, 0}), Error);
  EXPECT_THROW(TreeSpec(std::vector<int>{}), Error);
  EXPECT_THROW(TreeSpec({-1, -1}), Error);
}

}  // namespace
}  // namespace ptgc
