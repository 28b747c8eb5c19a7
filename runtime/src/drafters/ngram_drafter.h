// NgramDrafter: searches for the end of the text earlier in the text.
#pragma once

#include <memory>
#include <span>

#include "base/names.h"
#include "bundle/plan.h"
#include "drafters/drafter_seat.h"
#include "drafters/lookup_drafter.h"

namespace ptgc {

class Fields;

// The plan's parameters of it; the match lengths are the sizes of n-grams.
struct NgramParameters : DrafterParameters {
  NgramMatch match = NgramMatch::kLatest;  // Which match of the same length to continue.
};

void ReadNgram(const Fields& data, DrafterPlan& plan);
std::unique_ptr<Drafter> MakeNgram(DrafterSeat& seat);

// Proposes what followed the longest suffix of the text that occurs earlier in it (prompt lookup,
// Saxena 2023; LLMA, Yang et al., arXiv 2304.04487, section 3). Its cost is negligible.
class NgramDrafter : public LookupDrafter {
 public:
  explicit NgramDrafter(const NgramParameters& parameters) : parameters_(parameters) {}

  int Propose(const DraftRow& row) override;

 private:
  // A place in the text that agrees with its end.
  struct Match {
    std::size_t next = 0;    // Position of what followed it; 0 for no match.
    std::size_t length = 0;  // Tokens that agree.
  };
  Match Latest(std::span<const TokenId> text) const;
  Match First(std::span<const TokenId> text) const;

  NgramParameters parameters_;  // Sizes of n-grams, and which match counts.
};

}  // namespace ptgc
