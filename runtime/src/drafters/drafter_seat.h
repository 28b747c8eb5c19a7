// DrafterSeat: everything in a loaded bundle that a drafter is made from.
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
  const Bundle& bundle;        // What was loaded: roles, shapes, model.
  const DecodePlan& plan;      // The bundle's, as the options change it.
  const LoadOptions& options;  // How it is loaded.
  Engines& engines;            // By role; the drafter takes those of its own roles.
  const std::map<std::string, std::shared_ptr<KVCache>>& caches;  // Of every role that has one.
  int max_drafts;          // Draft tokens of a round at most.
  CostCurve target_costs;  // Of the rounds that verify.
};

}  // namespace ptgc
