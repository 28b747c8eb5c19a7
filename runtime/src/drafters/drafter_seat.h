// DrafterSeat: the parts of a loaded bundle that a drafter is made from.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "bundle/bundle.h"
#include "drafters/cost_curve.h"
#include "loops/load_options.h"
#include "models/kv_cache.h"

namespace ptgc {

// What a drafter is made from.
struct DrafterSeat {
  const Bundle& bundle;        // The loaded bundle: roles, shapes, model.
  const DecodePlan& plan;      // The bundle's, changed by the options: its tree may be a part.
  const LoadOptions& options;  // How the bundle is loaded.
  Engines& engines;            // By role; the drafter takes its own roles' engines.
  const std::map<std::string, std::shared_ptr<KVCache>>& caches;  // By role, if it has one.
  int max_drafts;                                                 // Most draft tokens per round.
  CostCurve target_costs;                                         // Costs of the target's rounds.
  bool overlap = false;  // Whether it drafts the next block while the target verifies this one.
};

}  // namespace ptgc
