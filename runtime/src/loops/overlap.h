// Overlap: drafts of the next round that are made while the target verifies this one's.
#pragma once

#include <span>
#include <vector>

#include "drafters/draft_length.h"
#include "drafters/drafter.h"
#include "loops/decode_loop.h"

namespace ptgc {

// Decides how many tokens a drafter makes ahead, and what waiting for them costs. Drafters that do
// not draft ahead have no part in it.
class Overlap {
 public:
  // `drafter` may be null. No row has more than `num_draft_tokens` drafts in a round; `batch` is
  // the number of rows.
  Overlap(Drafter* drafter, const DraftLength& length, int num_draft_tokens, int batch);

  // Runs `verify`, a round of the target of `width` rows, while drafts are made behind those of
  // `rows`, which belong to the turns. Writes to the turns what was made and used, and returns the
  // seconds for which the drafts were waited for after the target had run.
  template <typename Verify>
  double Beside(std::span<Turn> turns, std::span<const DraftRow> rows, int width, Verify verify) {
    if (drafter_ == nullptr || !drafter_->drafts_ahead()) {
      verify();
      return 0;
    }
    Start(turns, rows, width);
    const Guard guard(*drafter_);
    verify();
    return Finish(turns);
  }

  // Expected seconds for which the target's run, of `width` rows, is over and a row's drafts ahead
  // are not.
  double Cost(const Turn& turn, int width) const;

 private:
  // Waits for the drafts if the target's run fails.
  class Guard {
   public:
    explicit Guard(Drafter& drafter) : drafter_(drafter) {}
    ~Guard() { drafter_.DropAhead(); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    Drafter& drafter_;
  };
  void Start(std::span<const Turn> turns, std::span<const DraftRow> rows, int width);
  int Limit(const Turn& turn, int width) const;
  double Finish(std::span<Turn> turns);

  Drafter* drafter_;            // May be null.
  const DraftLength& length_;   // What rounds cost.
  int num_draft_tokens_;        // The most drafts of a row.
  std::vector<DraftRow> rows_;  // [batch], of the rows with turns: drafts behind this round's.
};

}  // namespace ptgc
