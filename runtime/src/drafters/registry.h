// The kinds of drafters: what each reads of a plan, which roles it runs, and how it is made.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "bundle/plan.h"

namespace ptgc {

class Drafter;
class Fields;
struct DrafterSeat;

// One kind of drafter.
struct DrafterKind {
  std::string_view name;  // In plan.drafter.kind; the feature of a bundle is "drafter-" and it.
  // Reads the kind's own fields of plan.drafter.
  void (*read)(const Fields& data, DrafterPlan& plan);
  // Makes one for a loaded bundle; null for plain decoding.
  std::unique_ptr<Drafter> (*make)(DrafterSeat& seat);
  // Roles that it runs beside the target: causal language models.
  std::span<const std::string_view> roles = {};
};

// All kinds, those of ptgc.spec.strategies.
std::span<const DrafterKind> DrafterKinds();
// The kind of this name; null where there is none.
const DrafterKind* FindDrafterKind(std::string_view name);

}  // namespace ptgc
