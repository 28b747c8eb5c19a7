#include "sampling/tree.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace ptgc {

TreeSpec::TreeSpec(std::vector<int> parents) : parents_(std::move(parents)), is_chain_(true) {
  if (parents_.empty() || parents_[0] != -1) {
    throw Error(ErrorCode::kBundle, "A token tree must start with its root, whose parent is -1.",
                "Export the bundle again.");
  }
  const std::size_t count = parents_.size();
  depths_.resize(count, 0);
  ancestors_.resize(count * count, 0);
  ancestors_[0] = 1;
  for (std::size_t node = 1; node < count; ++node) {
    const int parent = parents_[node];
    if (parent < 0 || parent >= static_cast<int>(node)) {
      throw Error(ErrorCode::kBundle,
                  "Node " + std::to_string(node) + " of a token tree has parent " +
                      std::to_string(parent) + "; a parent must come before its children.",
                  "Export the bundle again.");
    }
    const std::size_t above = static_cast<std::size_t>(parent);
    depths_[node] = depths_[above] + 1;
    std::copy_n(ancestors_.begin() + static_cast<std::ptrdiff_t>(above * count), count,
                ancestors_.begin() + static_cast<std::ptrdiff_t>(node * count));
    ancestors_[node * count + node] = 1;
    is_chain_ = is_chain_ && above + 1 == node;
  }
}

TreeSpec TreeSpec::Chain(int num_draft_tokens) {
  std::vector<int> parents(static_cast<std::size_t>(num_draft_tokens) + 1);
  for (std::size_t node = 0; node < parents.size(); ++node) {
    parents[node] = static_cast<int>(node) - 1;
  }
  return TreeSpec(std::move(parents));
}

}  // namespace ptgc
