#include "drafters/jacobi_drafter.h"

#include <algorithm>
#include <utility>

#include "bundle/json_document.h"

namespace ptgc {

void ReadJacobi(const Fields& /*data*/, DrafterPlan& plan) {
  auto parameters = std::make_shared<DrafterParameters>();
  parameters->shortest_match = 1;
  parameters->longest_match = 2;
  plan.parameters = std::move(parameters);
}

std::unique_ptr<Drafter> MakeJacobi(DrafterSeat& seat) {
  return std::make_unique<JacobiDrafter>(seat.bundle.shapes.batch,
                                         seat.plan.drafter.num_draft_tokens);
}

JacobiDrafter::JacobiDrafter(int batch, int num_draft_tokens)
    : rows_(static_cast<std::size_t>(batch)) {
  for (Guesses& guesses : rows_) guesses.tokens.reserve(static_cast<std::size_t>(num_draft_tokens));
}

// Guesses are of no use if the text was continued by others.
int JacobiDrafter::Propose(const DraftRow& row) {
  if (row.text.empty()) return 0;
  Guesses& guesses = GuessesOf(row.row);
  if (guesses.length != row.text.size()) guesses.tokens.clear();
  TokenId token = row.text.back();
  for (std::size_t i = 0; i < static_cast<std::size_t>(row.limit); ++i) {
    if (i < guesses.tokens.size()) token = guesses.tokens[i];
    row.proposal->Append(token);
  }
  row.proposal->set_match_length(1);
  return row.proposal->size();
}

// The answer after draft i is the new guess i + 1. Guesses that this round did not run stay.
//
//   depth           1   2   3   4   5
//   drafts          y1  y2  y3             y4 and y5 were guessed, and not run
//   answers         a0  a1  a2  a3         y1 is a0 and accepted, a1 is the bonus token
//   new guesses             a2  a3  y5
void JacobiDrafter::Observe(int row, const Observation& seen) {
  Guesses& guesses = GuessesOf(row);
  if (seen.bonus == kNoToken) return guesses.tokens.clear();
  const std::size_t drafts = static_cast<std::size_t>(seen.proposal->size());
  const std::size_t old = guesses.tokens.size(), first = seen.path.size() + 1;
  const std::size_t run = drafts >= first ? drafts - first + 1 : 0;  // Guesses with an answer.
  const std::size_t count = std::max(run, old > first ? old - first : 0);
  guesses.tokens.resize(std::max(count, old));
  for (std::size_t i = 0; i < count; ++i) {
    guesses.tokens[i] = i < run ? seen.answers[first + i] : guesses.tokens[first + i];
  }
  guesses.tokens.resize(count);
  guesses.length = seen.committed + seen.read.size() + first;
}

}  // namespace ptgc
