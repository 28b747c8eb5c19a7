#include "drafters/dynamic_tree.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace ptgc {

DynamicTree::DynamicTree(int num_drafts, int num_children, int num_parents) {
  const std::size_t most =
      static_cast<std::size_t>(num_parents + 1) * static_cast<std::size_t>(num_children);
  candidates_.reserve(most);
  chosen_.reserve(most);
  drafts_.reserve(most);
  gains_.reserve(static_cast<std::size_t>(num_drafts));
}

void DynamicTree::Clear() {
  candidates_.clear();
  chosen_.clear();
  gains_.clear();
  first_new_ = 0;
}

void DynamicTree::Add(int parent, std::span<const LikelyToken> children) {
  const double before = parent == kRoot ? 0 : At(parent).log_probability;
  for (const LikelyToken& child : children) {
    candidates_.push_back({parent, child.token, before + child.log_probability, 0});
  }
}

std::span<const int> DynamicTree::Newest(int count) {
  const int end = static_cast<int>(candidates_.size());
  chosen_.resize(static_cast<std::size_t>(end - first_new_));
  std::iota(chosen_.begin(), chosen_.end(), first_new_);
  first_new_ = end;
  KeepLikeliest(count);
  return chosen_;
}

// A parent comes before its children: it is at least as likely, and of equally likely candidates
// the one that was added first goes first.
void DynamicTree::Write(int count, Proposal& proposal) {
  chosen_.resize(candidates_.size());
  std::iota(chosen_.begin(), chosen_.end(), 0);
  KeepLikeliest(count);
  drafts_.assign(candidates_.size(), 0);
  gains_.clear();
  for (const int candidate : chosen_) {
    const Candidate& one = At(candidate);
    const int parent = one.parent == kRoot ? 0 : drafts_[static_cast<std::size_t>(one.parent)];
    drafts_[static_cast<std::size_t>(candidate)] = proposal.Add(parent, one.token);
    gains_.push_back(std::exp(one.log_probability));
  }
}

void DynamicTree::KeepLikeliest(int count) {
  const auto is_before = [this](int a, int b) {
    const double first = At(a).log_probability, second = At(b).log_probability;
    return first > second || (first == second && a < b);
  };
  const auto kept = std::min<std::size_t>(chosen_.size(), static_cast<std::size_t>(count));
  const auto end = chosen_.begin() + static_cast<std::ptrdiff_t>(kept);
  std::partial_sort(chosen_.begin(), end, chosen_.end(), is_before);
  chosen_.resize(kept);
}

int WidestDepth(const TreeSpec& tree) {
  int widest = 0, count = 0;
  for (int node = 1; node < tree.num_nodes(); ++node) {
    count = tree.depth(node) == tree.depth(node - 1) ? count + 1 : 1;
    widest = std::max(widest, count);
  }
  return widest;
}

}  // namespace ptgc
