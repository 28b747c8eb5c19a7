#include "loops/row_drafts.h"

#include <cstddef>
#include <utility>

namespace ptgc {
namespace {

// How many nodes had children that could be accepted: all before the end of the path, and the end
// itself if it has any.
int Tried(const Proposal& proposal, std::span<const int> path) {
  const int end = path.empty() ? 0 : path.back();
  bool has_children = false;
  for (int node = end + 1; node <= proposal.num_acceptable(); ++node) {
    has_children = has_children || proposal.tree().parent(node) == end;
  }
  return static_cast<int>(path.size()) + (has_children ? 1 : 0);
}

}  // namespace

RowDrafts::RowDrafts(std::span<const DrafterPlan> parts, int capacity,
                     const AcceptanceRates& measured)
    : best_(capacity) {
  for (const DrafterPlan& part : parts) {
    const DrafterParameters& own = *part.parameters;
    const bool is_last = &part == &parts.back();
    beginning_.push_back({AcceptanceEstimate(own.shortest_match, own.longest_match,
                                             is_last ? measured : AcceptanceRates()),
                          DraftAccount(), kNoOffer,
                          std::vector<double>(static_cast<std::size_t>(capacity))});
  }
  parts_ = beginning_;
}

void RowDrafts::Begin() { parts_ = beginning_; }

void RowDrafts::SkipRound() {
  for (Part& part : parts_) part.offered = kNoOffer;
}

DraftOffer RowDrafts::Ask(const Drafting& drafting, DraftRow& wanted, int chunk) {
  const int num_parts = static_cast<int>(parts_.size());
  DraftOffer best{{}, chunk};
  int best_part = 0;
  double best_pace = 0;
  best_.Clear();
  for (wanted.part = 0; wanted.part < num_parts; ++wanted.part) {
    const DraftOffer offer = AskPart(drafting, wanted, chunk);
    if (offer.tokens() == 0) continue;
    if (num_parts == 1 || !drafting.length.weighs_costs()) return offer;
    DraftOffer weighed = offer;
    const double pace = drafting.length.Best(std::span(&weighed, 1), drafting.Cost()).pace;
    if (pace <= best_pace) continue;
    best_pace = pace;
    best = offer;
    best_part = wanted.part;
    std::swap(*wanted.proposal, best_);
  }
  wanted.part = best_part;
  std::swap(*wanted.proposal, best_);
  return best;
}

// What each part may lose is its share of what all drafts may.
DraftOffer RowDrafts::AskPart(const Drafting& drafting, const DraftRow& wanted, int chunk) {
  Part& part = parts_[static_cast<std::size_t>(wanted.part)];
  Proposal& proposal = *wanted.proposal;
  DraftOffer offer{{}, chunk};
  proposal.Clear();
  const int offered = drafting.drafter.Propose(wanted);
  if (offered == 0) return offer;
  part.offered = proposal.match_length();
  offer.is_drafted = proposal.size() > 0;
  const std::span<double> gains = std::span(part.gains).first(static_cast<std::size_t>(offered));
  part.estimate.WriteGains(offer.is_drafted ? proposal.tree() : drafting.tree, part.offered, gains);
  offer.gains = gains;
  const double share = drafting.length.plain_cost() / static_cast<double>(parts_.size());
  offer.budget = part.account.Budget(share) - drafting.drafter.CatchUp(wanted);
  return offer;
}

void RowDrafts::Learn(int part, const Proposal& proposal, std::span<const int> path) {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    Part& one = parts_[i];
    if (one.offered == kNoOffer) continue;
    if (static_cast<int>(i) == part && proposal.size() > 0) {
      one.estimate.Observe(proposal.tree(), one.offered, Tried(proposal, path), path);
    } else {
      one.estimate.Skip(one.offered);
    }
  }
}

void RowDrafts::Settle(int part, double cost, double saved, int tokens) {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const bool is_own = static_cast<int>(i) == part;
    parts_[i].account.Add(is_own ? cost : 0, is_own ? saved : 0, tokens);
  }
}

}  // namespace ptgc
