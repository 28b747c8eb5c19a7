// Proposal: draft tokens and the tree that they stand in.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "base/token.h"
#include "sampling/tree.h"

namespace ptgc {

// The storage is taken once and used again every round. Node i of the tree (i > 0) carries draft
// token i - 1; a proposal may stop before the tree does.
class Proposal {
 public:
  explicit Proposal(TreeSpec tree) : tree_(std::move(tree)) {
    tokens_.reserve(static_cast<std::size_t>(capacity()));
  }

  const TreeSpec& tree() const { return tree_; }
  int capacity() const { return tree_.num_nodes() - 1; }
  int size() const { return static_cast<int>(tokens_.size()); }
  std::span<const TokenId> tokens() const { return tokens_; }
  int match_length() const { return match_length_; }

  void Clear() {
    tokens_.clear();
    match_length_ = 0;
  }
  // Gives the next node its token; there must be room.
  void Append(TokenId token) { tokens_.push_back(token); }
  // Changes the token of a node that has one.
  void Set(int node, TokenId token) { tokens_[static_cast<std::size_t>(node) - 1] = token; }
  void Truncate(int size) {
    if (size < this->size()) tokens_.resize(static_cast<std::size_t>(size));
  }
  void set_match_length(int length) { match_length_ = length; }

 private:
  TreeSpec tree_;                // Shape of a full proposal.
  std::vector<TokenId> tokens_;  // Draft tokens in topological order, the root apart.
  int match_length_ = 0;         // How much text the drafter found again; larger is surer.
};

}  // namespace ptgc
