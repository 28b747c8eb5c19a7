#include "sampling/acceptance.h"

namespace ptgc {

void Acceptance::Keep(const Proposal& proposal, std::span<const TokenId> next_ids) {
  const TreeSpec& tree = proposal.tree();
  const std::span<const TokenId> tokens = proposal.tokens();
  int deepest = 0;
  agreed_[0] = 1;
  for (int node = 1; node <= proposal.num_acceptable(); ++node) {
    const std::size_t parent = static_cast<std::size_t>(tree.parent(node));
    const std::size_t index = static_cast<std::size_t>(node);
    agreed_[index] = agreed_[parent] != 0 && tokens[index - 1] == next_ids[parent];
    if (agreed_[index] != 0 && tree.depth(node) > tree.depth(deepest)) deepest = node;
  }
  Take(proposal, deepest, next_ids[static_cast<std::size_t>(deepest)]);
}

void Acceptance::Take(const Proposal& proposal, int last, TokenId bonus) {
  const TreeSpec& tree = proposal.tree();
  bonus_ = bonus;
  path_.resize(static_cast<std::size_t>(tree.depth(last)));
  for (int node = last; node > 0; node = tree.parent(node)) {
    path_[static_cast<std::size_t>(tree.depth(node)) - 1] = node;
  }
}

}  // namespace ptgc
