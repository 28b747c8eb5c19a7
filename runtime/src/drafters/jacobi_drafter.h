// JacobiDrafter: drafts the target's own answers to the drafts of the round before.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "bundle/plan.h"
#include "drafters/drafter_seat.h"
#include "drafters/lookup_drafter.h"

namespace ptgc {

class Fields;

void ReadJacobi(const Fields& data, DrafterPlan& plan);
std::unique_ptr<Drafter> MakeJacobi(DrafterSeat& seat);

// Source: Jacobi decoding, Santilli et al., arXiv 2305.10427, section 3. With y the guesses after
// the text, a round computes y_i <- argmax p(. | text, y_1 ... y_{i-1}) for all i at once. Guesses
// that did not change, from the first one on, are accepted; the others move up, and new ones at the
// end repeat the last.
class JacobiDrafter : public LookupDrafter {
 public:
  JacobiDrafter(int batch, int num_draft_tokens);

  void Begin(int row) override { GuessesOf(row).tokens.clear(); }
  void Truncate(int row, int /*length*/) override { Begin(row); }
  void CopyRow(int from, int to) override { GuessesOf(to) = GuessesOf(from); }
  int Propose(const DraftRow& row) override;
  void Observe(int row, const Observation& seen) override;

 private:
  // What may follow a text.
  struct Guesses {
    std::vector<TokenId> tokens;  // At most as many as there are drafts.
    std::size_t length = 0;       // Length of the text that they follow.
  };
  Guesses& GuessesOf(int row) { return rows_[static_cast<std::size_t>(row)]; }

  std::vector<Guesses> rows_;  // [batch]
};

}  // namespace ptgc
