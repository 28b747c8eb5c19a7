// Proposal: draft tokens and their tree.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "base/token.h"
#include "sampling/tree.h"

namespace ptgc {

// Grows node by node; the storage is allocated once and reused every round. Node i of the tree (i >
// 0) carries draft token i - 1.
class Proposal {
 public:
  // Room for `capacity` draft tokens.
  explicit Proposal(int capacity) : tree_(TreeSpec::Root(capacity)) {
    tokens_.reserve(static_cast<std::size_t>(capacity));
  }

  const TreeSpec& tree() const { return tree_; }
  int capacity() const { return tree_.room(); }
  int size() const { return static_cast<int>(tokens_.size()); }
  std::span<const TokenId> tokens() const { return tokens_; }
  // The draft token of a node other than the root.
  TokenId token(int node) const { return tokens_[static_cast<std::size_t>(node) - 1]; }
  // The last draft that may be accepted; later ones are run for their answers only.
  int num_acceptable() const { return num_acceptable_; }
  int match_length() const { return match_length_; }

  void Clear() {
    tree_.Truncate(1);
    tokens_.clear();
    num_acceptable_ = 0;
    match_length_ = 0;
  }
  // The child of a node with this token; 0 if there is none.
  int Find(int parent, TokenId token) const {
    for (int node = parent + 1; node < tree_.num_nodes(); ++node) {
      if (tree_.parent(node) == parent && this->token(node) == token) return node;
    }
    return 0;
  }
  // The child of a node with this token: an existing one, so that several drafters may propose the
  // same, or a new one, for which there must be room.
  int Add(int parent, TokenId token) {
    const int node = AddUnaccepted(parent, token);
    num_acceptable_ = size();
    return node;
  }
  // The same for a draft that is run, but never accepted; all that may be accepted come before it.
  // An existing child stays what it is: equal drafts after equal text are one row.
  int AddUnaccepted(int parent, TokenId token) {
    if (const int found = Find(parent, token); found != 0) return found;
    tokens_.push_back(token);
    return tree_.Add(parent);
  }
  // Adds a draft as the child of the last one.
  void Append(TokenId token) { Add(size(), token); }
  // Changes the token of a draft.
  void Set(int node, TokenId token) { tokens_[static_cast<std::size_t>(node) - 1] = token; }
  void Truncate(int size) {
    if (size >= this->size()) return;
    tokens_.resize(static_cast<std::size_t>(size));
    tree_.Truncate(size + 1);
    num_acceptable_ = std::min(num_acceptable_, size);
  }
  void set_match_length(int length) { match_length_ = length; }

 private:
  TreeSpec tree_;                // The tree of the drafts.
  std::vector<TokenId> tokens_;  // Draft tokens in topological order, without the root.
  int num_acceptable_ = 0;       // How many of them, from the first on, may be accepted.
  int match_length_ = 0;         // Length of text found again; larger is more reliable.
};

}  // namespace ptgc
