#include "sampling/tree.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "base/error.h"

namespace ptgc {

TreeSpec::TreeSpec(std::size_t stride) : stride_(stride), ancestors_(stride * stride, 0) {
  parents_.reserve(stride);
  depths_.reserve(stride);
  parents_.push_back(-1);
  depths_.push_back(0);
  ancestors_[0] = 1;
}

TreeSpec::TreeSpec(const std::vector<int>& parents)
    : TreeSpec(std::max<std::size_t>(parents.size(), 1)) {
  if (parents.empty() || parents[0] != -1) {
    throw Error(ErrorCode::kBundle, "A token tree must start with its root, whose parent is -1.",
                "Export the bundle again.");
  }
  for (std::size_t node = 1; node < parents.size(); ++node) {
    if (parents[node] < 0 || parents[node] >= static_cast<int>(node)) {
      throw Error(ErrorCode::kBundle,
                  "Node " + std::to_string(node) + " of a token tree has parent " +
                      std::to_string(parents[node]) + "; a parent must come before its children.",
                  "Export the bundle again.");
    }
    Add(parents[node]);
  }
}

TreeSpec TreeSpec::Root(int num_draft_tokens) {
  return TreeSpec(static_cast<std::size_t>(num_draft_tokens) + 1);
}

TreeSpec TreeSpec::Chain(int num_draft_tokens) {
  TreeSpec chain = Root(num_draft_tokens);
  for (int node = 0; node < num_draft_tokens; ++node) chain.Add(node);
  return chain;
}

int TreeSpec::Add(int parent) {
  const std::size_t above = static_cast<std::size_t>(parent), node = parents_.size();
  if (is_chain() && above + 1 == node) ++chain_nodes_;
  parents_.push_back(parent);
  depths_.push_back(depths_[above] + 1);
  unsigned char* const row = ancestors_.data() + node * stride_;
  std::copy_n(ancestors_.data() + above * stride_, stride_, row);
  row[node] = 1;
  return static_cast<int>(node);
}

void TreeSpec::Truncate(int num_nodes) {
  if (num_nodes >= this->num_nodes()) return;
  parents_.resize(static_cast<std::size_t>(num_nodes));
  depths_.resize(static_cast<std::size_t>(num_nodes));
  chain_nodes_ = std::min(chain_nodes_, num_nodes);
}

int TreeSpec::height(int num_draft_tokens) const {
  return *std::max_element(depths_.begin(), depths_.begin() + num_draft_tokens + 1);
}

std::vector<int> TreeSpec::NodesIn(const TreeSpec& larger) const {
  std::map<std::pair<int, int>, int> places;  // By parent and rank.
  const std::vector<int> others = larger.Ranks(), ranks = Ranks();
  for (int node = 1; node < larger.num_nodes(); ++node) {
    places[{larger.parent(node), others[static_cast<std::size_t>(node)]}] = node;
  }
  std::vector<int> found = {0};
  for (int node = 1; node < num_nodes(); ++node) {
    const int above = found[static_cast<std::size_t>(parent(node))];
    const auto place = places.find({above, ranks[static_cast<std::size_t>(node)]});
    found.push_back(place == places.end() ? -1 : place->second);
  }
  return found;
}

std::vector<int> TreeSpec::Ranks() const {
  std::vector<int> seen(parents_.size()), ranks = {0};
  for (int node = 1; node < num_nodes(); ++node) {
    ranks.push_back(seen[static_cast<std::size_t>(parent(node))]++);
  }
  return ranks;
}

bool TreeSpec::is_by_depth() const { return std::is_sorted(depths_.begin(), depths_.end()); }

int TreeSpec::rank(int node) const {
  const auto begin = parents_.begin();
  return static_cast<int>(std::count(begin, begin + node, parent(node)));
}

int TreeSpec::num_children(int node) const {
  return static_cast<int>(std::count(parents_.begin() + node, parents_.end(), node));
}

}  // namespace ptgc
