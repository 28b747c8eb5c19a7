#include "loops/overlap.h"

#include <algorithm>
#include <cstddef>

#include "base/clock.h"

namespace ptgc {

Overlap::Overlap(Drafter* drafter, const DraftLength& length, int num_draft_tokens, int batch)
    : drafter_(drafter), length_(length), num_draft_tokens_(num_draft_tokens) {
  rows_.reserve(static_cast<std::size_t>(batch));
}

// Rows without drafts have none made ahead: where drafts do not pay, those of the next round would
// not either.
void Overlap::Start(std::span<const Turn> turns, std::span<const DraftRow> rows, int width) {
  rows_.assign(rows.begin(), rows.end());
  for (std::size_t i = 0; i < turns.size(); ++i) rows_[i].limit = Limit(turns[i], width);
  drafter_->DraftAhead(rows_);
}

// As many drafts as the next round may have, and the token before them. If costs are weighed, those
// that take no longer than the target's run (PEARL, arXiv 2408.11850, section 4.3), but no fewer
// than in this round, where as many pay even if they are waited for.
int Overlap::Limit(const Turn& turn, int width) const {
  const int drafts = static_cast<int>(turn.drafted.size());
  const int most = std::min(num_draft_tokens_, turn.max_new_tokens - 1 - drafts - 1);
  if (drafts == 0 || most <= 0) return 0;
  if (!length_.weighs_costs()) return most + 1;
  const double seconds = length_.costs().AtLeast(width);
  int count = std::min(drafts, most);
  while (count < most && drafter_->Cost(count + 2) <= seconds) ++count;
  return count + 1;
}

double Overlap::Cost(const Turn& turn, int width) const {
  if (turn.ahead == 0) return 0;
  return std::max(drafter_->Cost(turn.ahead) - length_.costs().AtLeast(width), 0.0);
}

double Overlap::Finish(std::span<Turn> turns) {
  const Clock::time_point start = Clock::now();
  drafter_->FinishAhead();
  for (Turn& turn : turns) {
    const AheadDrafts ahead = drafter_->ahead(turn.session->row());
    turn.ahead = ahead.made;
    turn.is_ahead = ahead.is_used && !turn.drafted.empty();
  }
  return SecondsSince(start);
}

}  // namespace ptgc
