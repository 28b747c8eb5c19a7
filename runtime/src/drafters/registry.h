// The kinds of drafters: what each reads of a plan, which roles it runs, and how it is made.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bundle/plan.h"

namespace ptgc {

class Drafter;
class Fields;
struct DrafterSeat;

// One kind of drafter.
struct DrafterKind {
  std::string_view name;  // As in plan.drafter.kind and in the feature "drafter-NAME".
  // Reads the kind's own fields of plan.drafter.
  void (*read)(const Fields& data, DrafterPlan& plan);
  // Makes one for a loaded bundle; null for plain decoding.
  std::unique_ptr<Drafter> (*make)(DrafterSeat& seat);
  // Roles that it runs in addition to the target.
  std::span<const std::string_view> roles = {};
  // Whether they read the target's hidden states.
  bool reads_states = false;
  // Whether its parameters are BlockParameters: a run drafts a whole proposal.
  bool drafts_blocks = false;
  // Whether its tree may be dynamic: depend on how likely its drafts are.
  bool draws_dynamic_trees = false;
};

// All kinds, the same as in ptgc.spec.strategies.
std::span<const DrafterKind> DrafterKinds();
// The kind of this name; null if there is none.
const DrafterKind* FindDrafterKind(std::string_view name);
// The kind of a plan's drafter; of merged ones that of the last, the only one that may have roles.
const DrafterKind& LearnedKind(const DrafterPlan& plan);
// The roles of a plan's drafter in addition to the target, with all that can take its place.
std::vector<std::string> RolesOf(const DrafterPlan& plan);

}  // namespace ptgc
