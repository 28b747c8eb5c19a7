// What each rule of acceptance is: its parameters, and what it needs.
#pragma once

#include <cstdint>

#include "base/names.h"

namespace ptgc {

// Rule `typical`: a draft d is accepted if p(d) > min(epsilon, delta * exp(-H(p))), where H is the
// entropy of the target's distribution p (Medusa: Cai et al., arXiv 2401.10774, section 2.3.1).
struct TypicalAcceptance {
  double epsilon = 0.09;  // Probability that is always enough.
  double delta = 0.3;     // Share of exp(-H(p)) that is enough.
};

// Rule `relaxed`: a draft is accepted if it is among the target's `top_k` tokens, and ln p is at
// most `margin` below that of the likeliest.
struct RelaxedAcceptance {
  std::int64_t top_k = 10;  // Tokens that are candidates.
  double margin = 0.6;      // Largest difference of log-probabilities.
};

// Whether texts are others than those of plain decoding.
constexpr bool IsLossy(AcceptanceRule rule) {
  return rule == AcceptanceRule::kTypical || rule == AcceptanceRule::kRelaxed;
}

// Whether drafts are judged by the distributions that they were drawn from. They are then drawn
// with noise of their own, otherwise with that of the target.
constexpr bool NeedsProbabilities(AcceptanceRule rule) {
  return rule == AcceptanceRule::kSpeculative || rule == AcceptanceRule::kBlock;
}

// Number of a draw for the drafts `depth` nodes below the root, or for one of them, the sibling
// number `rank`. Under `speculative`, nothing that is drawn for the positions after the last
// accepted one influences the text, so the next round may draw the same there. Under `block` it
// does, so that every round has draws of its own: no two rounds have the same position at the same
// depth.
constexpr std::uint32_t DrawOf(AcceptanceRule rule, int depth, int rank = 0) {
  const int round = rule == AcceptanceRule::kBlock ? depth : 0;
  return (static_cast<std::uint32_t>(round) << 16U) + static_cast<std::uint32_t>(rank);
}

}  // namespace ptgc
