// TreeSpec: the shape of a proposal. A chain is a tree in which every node has one child.
#pragma once

#include <cstddef>
#include <vector>

namespace ptgc {

// A token tree in topological order; node 0 is the root, the last committed token.
//
//         0            parents = (-1, 0, 0, 1, 1)
//       /   \          depths  = ( 0, 1, 1, 2, 2)
//      1     2
//     / \            .
//    3   4
//
// The first n nodes of a tree are a tree again, so a short proposal is a prefix. In the tree that
// `ptgc tune` found, the most valuable nodes come first.
class TreeSpec {
 public:
  // Throws a bundle error if a parent does not come before its child.
  explicit TreeSpec(const std::vector<int>& parents);

  // The root followed by `num_draft_tokens` nodes in a row.
  static TreeSpec Chain(int num_draft_tokens);
  // Only the root, with room for `num_draft_tokens` more nodes, so that growing allocates nothing.
  static TreeSpec Root(int num_draft_tokens);

  // Adds a child of a node and returns its number; there must be room.
  int Add(int parent);
  // Removes all nodes from number `num_nodes` on, which must not be the root.
  void Truncate(int num_nodes);

  int num_nodes() const { return static_cast<int>(parents_.size()); }
  // Draft tokens that there is room for.
  int room() const { return static_cast<int>(stride_) - 1; }
  bool is_chain() const { return chain_nodes_ == num_nodes(); }
  int parent(int node) const { return parents_[static_cast<std::size_t>(node)]; }
  int depth(int node) const { return depths_[static_cast<std::size_t>(node)]; }
  // Nodes of the longest path, without the root; or of the longest among the first drafts.
  int height() const { return height(num_nodes() - 1); }
  int height(int num_draft_tokens) const;
  // The node of a larger tree that each node stands for: the one with the same ranks on its path.
  // -1 for nodes that the larger tree lacks.
  std::vector<int> NodesIn(const TreeSpec& larger) const;
  // Whether the nodes come in the order of their depths.
  bool is_by_depth() const;
  // How many children of the same parent come before a node.
  int rank(int node) const;
  // Children of a node.
  int num_children(int node) const;

  // Whether `ancestor` is `node` or on its path to the root.
  bool Sees(int node, int ancestor) const {
    return ancestors_[static_cast<std::size_t>(node) * stride_ +
                      static_cast<std::size_t>(ancestor)] != 0;
  }

 private:
  explicit TreeSpec(std::size_t stride);
  // The rank of every node.
  std::vector<int> Ranks() const;

  std::size_t stride_;                    // Nodes that there is room for.
  std::vector<int> parents_;              // Parent of each node; -1 for the root.
  std::vector<int> depths_;               // Distance of each node from the root.
  std::vector<unsigned char> ancestors_;  // [stride, stride], the tree mask.
  int chain_nodes_ = 1;                   // Length of the leading chain of nodes.
};

}  // namespace ptgc
