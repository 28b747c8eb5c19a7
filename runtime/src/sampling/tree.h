// TreeSpec: the shape of a proposal. A chain is a tree whose every node has one child.
#pragma once

#include <cstddef>
#include <vector>

namespace ptgc {

// A static token tree in topological order; node 0 is the root, the last committed token.
//
//         0            parents = (-1, 0, 0, 1, 1)
//       /   \          depths  = ( 0, 1, 1, 2, 2)
//      1     2
//     / \            .
//    3   4
//
// The first n nodes of a tree are a tree again, so a short proposal is a prefix.
class TreeSpec {
 public:
  // Throws a bundle error where a parent does not come before its child.
  explicit TreeSpec(std::vector<int> parents);

  // The root followed by `num_draft_tokens` nodes in a row.
  static TreeSpec Chain(int num_draft_tokens);

  int num_nodes() const { return static_cast<int>(parents_.size()); }
  bool is_chain() const { return is_chain_; }
  int parent(int node) const { return parents_[static_cast<std::size_t>(node)]; }
  int depth(int node) const { return depths_[static_cast<std::size_t>(node)]; }
  const std::vector<int>& parents() const { return parents_; }

  // Whether `ancestor` is `node` or lies on its way to the root.
  bool Sees(int node, int ancestor) const {
    return ancestors_[static_cast<std::size_t>(node) * parents_.size() +
                      static_cast<std::size_t>(ancestor)] != 0;
  }

 private:
  std::vector<int> parents_;              // Parent of each node; -1 for the root.
  std::vector<int> depths_;               // Distance of each node from the root.
  std::vector<unsigned char> ancestors_;  // [num_nodes, num_nodes], the tree mask.
  bool is_chain_;                         // Every node is the child of the one before it.
};

}  // namespace ptgc
