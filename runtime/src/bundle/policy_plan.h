// PolicyPlan: how the graph of a denoiser chooses positions of a canvas and their tokens.
#pragma once

#include <optional>

#include "base/names.h"

namespace ptgc {

// The thresholds that a kind of policy takes, from 0.
struct Thresholds {
  double most = 1;  // The largest.
  double none = 1;  // The threshold that adds no position.
};

// Null if the kind has no threshold.
constexpr std::optional<Thresholds> ThresholdsOf(PolicyKind kind) {
  constexpr double kMost = 1000;  // Of a factor, a sum of entropies, or a module's own meaning.
  switch (kind) {
    case PolicyKind::kConfidence:
    case PolicyKind::kMargin:
      return Thresholds{1, 1};
    case PolicyKind::kFactor:
    case PolicyKind::kEntropy:
      return Thresholds{kMost, 0};
    case PolicyKind::kOwn:
      return Thresholds{kMost, 1};
    case PolicyKind::kRandom:
    case PolicyKind::kSequential:
      return std::nullopt;
  }
  return std::nullopt;
}

struct PolicyPlan {
  PolicyKind kind = PolicyKind::kConfidence;  // Which positions a round fills first.
  std::optional<double> threshold = {};       // Positions that it fills in addition; null: none.
  bool is_sampled = false;                    // Whether the graph can sample tokens.

  // The threshold as the graph takes it, if this kind has any.
  double bound() const {
    return threshold.value_or(ThresholdsOf(kind).value_or(Thresholds()).none);
  }
  // Whether the graph takes random numbers.
  bool draws() const { return is_sampled || kind == PolicyKind::kRandom; }
};

}  // namespace ptgc
