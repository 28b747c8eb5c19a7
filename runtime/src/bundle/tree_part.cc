#include "bundle/tree_part.h"

#include <algorithm>

#include "base/error.h"

namespace ptgc {

std::string TreePartProblem(const DecodePlan& plan, const std::vector<int>& parents) {
  const DrafterPlan& learned = plan.drafter.Parts().back();
  TreeSpec whole = plan.tree;
  whole.Truncate(learned.num_draft_tokens + 1);
  if (whole.is_chain() || plan.has_dynamic_tree || !learned.parameters->fills_tree) {
    return "has no use: this bundle's drafts do not fill a tree of its plan.";
  }
  try {
    const TreeSpec tree(parents);
    const std::vector<int> nodes = tree.NodesIn(whole);
    const auto absent = std::find(nodes.begin(), nodes.end(), -1);
    if (absent == nodes.end()) return "";
    return "has node " + std::to_string(absent - nodes.begin()) + ", which the plan's tree lacks.";
  } catch (const Error& error) {
    return "is none. " + error.message();
  }
}

}  // namespace ptgc
