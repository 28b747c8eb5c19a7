// DynamicTree: candidates for drafts, of which the likeliest form the tree of a round.
#pragma once

#include <span>
#include <vector>

#include "drafters/likely_tokens.h"
#include "sampling/proposal.h"
#include "sampling/tree.h"

namespace ptgc {

// A candidate's probability is that of its token after its parent, times its parent's: that the
// whole path is accepted. The likeliest candidates always form a tree, and so do the first of them,
// so that a proposal in this order may be cut anywhere.
//
//   root -- a .6 -- c .4         the 3 likeliest drafts are a, c, b; in that order
//      \         \- d .1
//       \- b .3 -- e .2
//
// Sources: EAGLE-2 (Li et al., arXiv 2406.16858, section 4: the likeliest nodes of a depth are
// expanded, and all candidates ranked again); DDTree ranks the marginals of a block alike.
class DynamicTree {
 public:
  static constexpr int kRoot = -1;

  // Room for a proposal of `num_drafts`, whose candidates have `num_children` children each; at
  // most `num_parents` of them have children.
  DynamicTree(int num_drafts, int num_children, int num_parents);

  void Clear();
  // Adds the children of a candidate, or of the root, likeliest first.
  void Add(int parent, std::span<const LikelyToken> children);
  // The likeliest of those that were added since the last call, at most `count`, likeliest first.
  // Valid until the next call of any method.
  std::span<const int> Newest(int count);
  // Fills an empty proposal with at most `count` drafts, likeliest first.
  void Write(int count, Proposal& proposal);

  TokenId token(int candidate) const { return At(candidate).token; }
  // A candidate became a node of what the drafter reads.
  void set_node(int candidate, int node) {
    candidates_[static_cast<std::size_t>(candidate)].node = node;
  }
  // The node of a candidate's parent there; 0 for the root.
  int NodeAbove(int candidate) const {
    return At(candidate).parent == kRoot ? 0 : At(At(candidate).parent).node;
  }
  // Of the proposal last written: the node there of a draft; 0 for none.
  int NodeOf(int draft) const { return At(chosen_[static_cast<std::size_t>(draft) - 1]).node; }
  // Of the proposal last written: the probability that each draft is accepted.
  std::span<const double> gains() const { return gains_; }

 private:
  struct Candidate {
    int parent = kRoot;  // The candidate before it.
    TokenId token = kNoToken;
    double log_probability = 0;  // Of the path.
    int node = 0;                // Among those that the drafter reads; 0 for none.
  };
  const Candidate& At(int candidate) const {
    return candidates_[static_cast<std::size_t>(candidate)];
  }
  void KeepLikeliest(int count);

  std::vector<Candidate> candidates_;  // In the order of their depths.
  int first_new_ = 0;                  // Those since the last Newest.
  std::vector<int> chosen_;            // The likeliest of some candidates.
  std::vector<int> drafts_;            // The draft of each candidate in the proposal; 0 for none.
  std::vector<double> gains_;          // By draft.
};

// The most nodes of one depth of a tree.
int WidestDepth(const TreeSpec& tree);

}  // namespace ptgc
