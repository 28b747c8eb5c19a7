// CountedPath: counts the drafts on the path to a node as part of the text.
#pragma once

#include "sampling/proposal.h"
#include "sampling/token_counts.h"

namespace ptgc {

// While this lives, the drafts from the root's child down to `node` are in the counts, in that
// order. `counts` may be null.
class CountedPath {
 public:
  CountedPath(TokenCounts* counts, const Proposal& proposal, int node)
      : counts_(counts), proposal_(proposal), node_(node) {
    if (counts_ != nullptr) Push(node);
  }
  ~CountedPath() {
    if (counts_ == nullptr) return;
    for (int node = node_; node > 0; node = proposal_.tree().parent(node)) {
      counts_->Pop(proposal_.token(node));
    }
  }
  CountedPath(const CountedPath&) = delete;
  CountedPath& operator=(const CountedPath&) = delete;

 private:
  void Push(int node) {
    if (node == 0) return;
    Push(proposal_.tree().parent(node));
    counts_->Push(proposal_.token(node));
  }

  TokenCounts* counts_;       // The counts, or null.
  const Proposal& proposal_;  // The drafts.
  int node_;                  // The last of them.
};

}  // namespace ptgc
