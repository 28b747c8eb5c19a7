#include "loops/canvas_options.h"

#include <sstream>
#include <string>

#include "base/error.h"
#include "bundle/bundle_limits.h"

namespace ptgc {
namespace {

// What is wrong with a threshold for a policy; empty if nothing is.
std::string ThresholdProblem(double threshold, const PolicyPlan& policy) {
  const std::optional<Thresholds> known = ThresholdsOf(policy.kind);
  std::ostringstream text;
  text << "threshold is " << threshold << "; the policy '" << Name(policy.kind)
       << "' of this bundle ";
  if (!known.has_value()) return text.str() + "has none. ";
  if (threshold >= 0 && threshold <= known->most) return "";  // False for NaN.
  text << "takes one from 0 to " << known->most << ". ";
  return text.str();
}

}  // namespace

void CanvasOptions::Check(const DecodePlan& plan, const SamplingOptions& sampling) const {
  if (plan.loop != LoopKind::kCanvas) {
    if (num_steps == 0 && !threshold.has_value()) return;
    throw Error(ErrorCode::kUsage,
                "num_steps and threshold are for canvases, which the strategy '" + plan.strategy +
                    "' of this bundle does not fill.",
                "Leave them out.");
  }
  std::string problems;
  if (num_steps < 0 || num_steps > limits::kSteps.most) {
    problems += "num_steps is " + std::to_string(num_steps) + "; it must be from 1 to " +
                std::to_string(limits::kSteps.most) + ". ";
  }
  if (threshold.has_value()) problems += ThresholdProblem(*threshold, plan.canvas.policy);
  if (!sampling.is_greedy() && !plan.canvas.policy.is_sampled) {
    problems += "The strategy '" + plan.strategy +
                "' takes the likeliest tokens, because this bundle was exported without "
                "--sampling; it has no temperature. ";
  }
  if (sampling.has_penalties() || !sampling.logit_bias.empty()) {
    problems += "A canvas has no penalties or biases. ";
  }
  if (!sampling.is_greedy() &&
      (sampling.top_k != 0 || sampling.top_p != 1 || sampling.min_p != 0)) {
    problems += "A canvas is sampled with a temperature alone, without top_k, top_p and min_p. ";
  }
  if (problems.empty()) return;
  problems.pop_back();
  throw Error(ErrorCode::kUsage, problems, "Correct or leave out the options named above.");
}

}  // namespace ptgc
