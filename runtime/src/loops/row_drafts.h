// RowDrafts: what the drafter has done for one row so far, and what it offers next.
#pragma once

#include <span>
#include <vector>

#include "drafters/acceptance_estimate.h"
#include "drafters/draft_account.h"
#include "drafters/draft_length.h"
#include "drafters/drafter.h"

namespace ptgc {

// What the offers of all rows depend on.
struct Drafting {
  Drafter& drafter;           // Makes the drafts.
  const DraftLength& length;  // What rounds cost.
  const TreeSpec& tree;       // The plan's tree, of drafts that are still to be made.

  // What drafting a number of tokens costs.
  auto Cost() const {
    return [this](int drafts) { return drafter.Cost(drafts); };
  }
};

// Keeps an estimate and an account for each of the drafters that the plan's drafter is merged from;
// another drafter is its only part.
class RowDrafts {
 public:
  // `capacity` is the largest number of drafts in a round. `measured` are rates of the last part.
  RowDrafts(std::span<const DrafterPlan> parts, int capacity, const AcceptanceRates& measured);

  // A text begins.
  void Begin();
  // The row has no drafts in this round.
  void SkipRound();
  // Asks for drafts of a row that feeds `chunk` tokens of its text. Of several parts, the one is
  // chosen that promises the most tokens per second; or the first that has drafts, if all are taken
  // whatever they cost. Writes its number to `wanted.part`, and fills its proposal if the drafts
  // are there already.
  DraftOffer Ask(const Drafting& drafting, DraftRow& wanted, int chunk);
  // The part whose drafts were tried learns from the outcome; estimates of others that offered
  // drafts fade.
  void Learn(int part, const Proposal& proposal, std::span<const int> path);
  // The round's drafts of a part have cost and saved so many seconds; `tokens` are new.
  void Settle(int part, double cost, double saved, int tokens);

 private:
  static constexpr int kNoOffer = -1;
  struct Part {
    AcceptanceEstimate estimate;  // How often its drafts are accepted.
    DraftAccount account;         // What they cost so far.
    int offered = kNoOffer;       // Match length of what it offered this round.
    std::vector<double> gains;    // [capacity], of the drafts that are offered.
  };
  DraftOffer AskPart(const Drafting& drafting, const DraftRow& wanted, int chunk);

  std::vector<Part> parts_;      // At least one.
  std::vector<Part> beginning_;  // The same at the beginning of a text.
  Proposal best_;  // The drafts of the part that promises most, while others are asked.
};

}  // namespace ptgc
