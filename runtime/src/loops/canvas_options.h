// CanvasOptions: what a request may change in the policies of a canvas.
#pragma once

#include <optional>

#include "bundle/plan.h"
#include "sampling/sampling_options.h"

namespace ptgc {

struct CanvasOptions {
  int num_steps = 0;                     // Most rounds; 0 for the plan's.
  std::optional<double> threshold = {};  // Of the policy; null for the plan's.

  // Throws one usage error that names everything a bundle's plan cannot do.
  void Check(const DecodePlan& plan, const SamplingOptions& sampling) const;
};

}  // namespace ptgc
