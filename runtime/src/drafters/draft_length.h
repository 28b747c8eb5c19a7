// DraftLength: chooses how many draft tokens to verify.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "base/names.h"
#include "drafters/cost_curve.h"

namespace ptgc {

// What the drafter offers for one sequence this round.
struct DraftOffer {
  std::span<const double> gains;  // Probability that each draft is accepted.
  int chunk = 1;                  // Text tokens that the row feeds before them.
  // Seconds that its drafts may cost if none is accepted.
  double budget = std::numeric_limits<double>::infinity();
  bool is_drafted = false;  // Whether the drafts are there already, so that drafting costs nothing.

  int tokens() const { return static_cast<int>(gains.size()); }
};

// A number of drafts, and what it promises.
struct DraftChoice {
  int drafts = 0;   // The most draft tokens of any sequence.
  double pace = 0;  // Expected tokens per second.
};

// Chooses how many drafts a round verifies.
class DraftLength {
 public:
  DraftLength(DraftLengthMode mode, CostCurve costs) : mode_(mode), costs_(std::move(costs)) {}

  // The most draft tokens to verify for any sequence this round, 0 for none; cuts every offer to
  // its budget. `drafter_cost` gives the seconds for drafting a number of tokens for the sequences
  // that have none yet.
  //
  // A round yields one token plus the sum of the drafts' gains: with acceptance rate a, a chain of
  // n drafts yields 1 + a + ... + a^n (Leviathan et al., arXiv 2211.17192, section 3.1). The number
  // with the most expected tokens per second wins.
  template <typename DrafterCost>
  int Choose(std::span<DraftOffer> offers, DrafterCost drafter_cost) const {
    return Best(offers, drafter_cost).drafts;
  }
  // The same with the pace that it promises; if all drafts are taken, that is their number.
  template <typename DrafterCost>
  DraftChoice Best(std::span<DraftOffer> offers, DrafterCost drafter_cost) const {
    if (mode_ == DraftLengthMode::kMeasured) {
      for (DraftOffer& offer : offers) {
        const auto cost = [&](int drafts) {
          return Extra(offers, offer.chunk + drafts) +
                 (offer.is_drafted ? 0 : drafter_cost(drafts));
        };
        while (offer.tokens() > 0 && cost(offer.tokens()) > offer.budget) {
          offer.gains = offer.gains.first(offer.gains.size() - 1);
        }
      }
    }
    int most = 0, asked = 0;
    for (const DraftOffer& offer : offers) {
      most = std::max(most, offer.tokens());
      if (!offer.is_drafted) asked = std::max(asked, offer.tokens());
    }
    if (mode_ == DraftLengthMode::kFixed) return {most, static_cast<double>(most)};
    double expected = static_cast<double>(offers.size());
    DraftChoice best;
    for (int drafts = 0; drafts <= most; ++drafts) {
      if (drafts > 0) expected += Gain(offers, drafts);
      const double seconds =
          costs_.AtLeast(Rows(offers, drafts)) + drafter_cost(std::min(drafts, asked));
      // Of equally fast numbers the largest is taken, because all its drafts may be accepted.
      if (expected / seconds >= best.pace) best = {drafts, expected / seconds};
    }
    return best;
  }

  // Extra seconds of a round of so many rows over one without drafts.
  double Extra(std::span<const DraftOffer> offers, int rows) const {
    const int without = Rows(offers, 0);
    return costs_.AtLeast(std::max(rows, without)) - costs_.AtLeast(without);
  }
  // Whether drafts are left out that do not pay.
  bool weighs_costs() const { return mode_ == DraftLengthMode::kMeasured; }
  // Seconds of a plain round.
  double plain_cost() const { return costs_.At(0); }
  const CostCurve& costs() const { return costs_; }

 private:
  // The expected tokens that draft number `drafts` adds, over all rows.
  static double Gain(std::span<const DraftOffer> offers, int drafts);
  // Rows of a round that verifies so many drafts.
  static int Rows(std::span<const DraftOffer> offers, int drafts);

  DraftLengthMode mode_;  // Whether costs are weighed.
  CostCurve costs_;       // What each width costs.
};

}  // namespace ptgc
