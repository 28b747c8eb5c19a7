// Parts of a plan's tree, which proposals may fill in place of the whole.
#pragma once

#include <string>
#include <vector>

#include "bundle/plan.h"

namespace ptgc {

// Why proposals cannot fill the tree with these parents, as the rest of a sentence about it; empty
// if they can: the plan's drafts fill its tree, and the tree is a part of that. A part has all
// nodes above each of its nodes, and the siblings before it.
std::string TreePartProblem(const DecodePlan& plan, const std::vector<int>& parents);

}  // namespace ptgc
