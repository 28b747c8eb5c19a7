// Acceptance: which part of a proposal the target agrees with.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/token.h"
#include "sampling/proposal.h"

namespace ptgc {

// The outcome of one row's verification; storage is reused every round.
class Acceptance {
 public:
  explicit Acceptance(int capacity) {
    path_.reserve(static_cast<std::size_t>(capacity));
    agreed_.resize(static_cast<std::size_t>(capacity) + 1);
  }

  // Keeps the longest path from the root whose every token is the target's answer after its
  // parent. `next_ids[i]` is the answer at node i: [1 + proposal.size()].
  void Keep(const Proposal& proposal, std::span<const TokenId> next_ids);
  // Takes the path to a node, which TargetChoice accepted, and the token after it.
  void Take(const Proposal& proposal, int last, TokenId bonus);

  // Accepted nodes from the root's child down; node i carries draft token i - 1.
  std::span<const int> path() const { return path_; }
  // The target's own token after the path.
  TokenId bonus() const { return bonus_; }

 private:
  std::vector<int> path_;              // Accepted nodes, without the root.
  std::vector<unsigned char> agreed_;  // Scratch: whether the whole path to a node was accepted.
  TokenId bonus_ = 0;                  // The target's token after the last accepted node.
};

}  // namespace ptgc
