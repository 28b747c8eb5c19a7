// DrawnDrafts: gives nodes the children that a model's logits choose, and keeps what they were
// drawn from.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/names.h"
#include "drafters/drafter.h"
#include "sampling/sampler.h"
#include "sampling/tree.h"

namespace ptgc {

// The likeliest child comes first. When sampling, the order is that of logits with Gumbel noise, so
// that the children are drawn without replacement (Kool et al., arXiv 1903.06059, section 2).
// Unless the rule needs probabilities, the noise is the target's: the first child is what the
// target would choose if it had these logits, the next what it would choose without the first.
class DrawnDrafts {
 public:
  // `tree` is the plan's; ids from `num_ids` on are never drafted.
  DrawnDrafts(const TreeSpec& tree, AcceptanceRule rule, int batch, std::int64_t num_ids);

  // A round begins: nothing is drawn for the row yet.
  void Clear(int row);
  // Adds the children that the tree has at the place of a node of the proposal, among the row's
  // first `limit` drafts. Throws if the logits are not numbers.
  void AddChildren(const DraftRow& row, int node, LogitsRow logits);
  // What the first `count` drafts of a row were drawn from; those added by others are certain.
  DraftProbabilities Probabilities(int row, int count) const;

 private:
  // For each node of a row's proposal.
  struct Row {
    std::vector<int> places;  // Its node in the tree.
    std::vector<int> drawn;   // The distribution that it was drawn from, or kCertain.
  };
  const Row& RowAt(int row) const { return rows_[static_cast<std::size_t>(row)]; }
  Row& RowAt(int row) { return rows_[static_cast<std::size_t>(row)]; }
  std::span<float> Distributions(int row, int first, int count) const;

  TreeSpec tree_;                  // The tree of a full proposal.
  AcceptanceRule rule_;            // How the target will judge the drafts.
  std::int64_t num_ids_;           // Ids that can be drafted.
  Sampler sampler_;                // Chooses drafts.
  std::vector<TokenId> siblings_;  // Children of the current node.
  std::vector<int> families_;      // Nodes of the tree with children are numbered; -1 for others.
  int num_families_ = 0;           // Nodes with children.
  std::vector<Row> rows_;          // [batch]
  Buffer probabilities_;           // [batch, num_families, num_ids], if the rule needs them.
};

}  // namespace ptgc
