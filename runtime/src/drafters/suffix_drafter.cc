#include "drafters/suffix_drafter.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "bundle/json_document.h"

namespace ptgc {
namespace {

constexpr double kMostPerMatch = 64;
// Longer suffixes are as reliable as those of this length.
constexpr int kReliableLength = 16;

}  // namespace

void ReadSuffix(const Fields& data, DrafterPlan& plan) {
  auto parameters = std::make_shared<SuffixParameters>();
  parameters->shortest_match =
      static_cast<int>(data.Integer("min_match_length", limits::kNgramSize));
  parameters->longest_match = std::max(parameters->shortest_match, kReliableLength);
  parameters->drafts_per_match = data.Number("drafts_per_match", 0, kMostPerMatch);
  parameters->min_probability = data.Number("min_probability", 0, 1);
  plan.parameters = std::move(parameters);
}

std::unique_ptr<Drafter> MakeSuffix(DrafterSeat& seat) {
  return std::make_unique<SuffixDrafter>(seat.plan.drafter.Own<SuffixParameters>(),
                                         seat.bundle.shapes.batch, seat.bundle.shapes.max_length);
}

SuffixDrafter::SuffixDrafter(const SuffixParameters& parameters, int batch, int max_length)
    : parameters_(parameters) {
  read_.reserve(static_cast<std::size_t>(batch));
  for (int row = 0; row < batch; ++row) read_.emplace_back(max_length);
}

// An automaton does not forget, so a shorter text is read again.
void SuffixDrafter::Truncate(int row, int length) {
  if (length < Read(row).size()) Read(row).Clear();
}

int SuffixDrafter::Propose(const DraftRow& row) {
  SuffixAutomaton& read = Read(row.row);
  while (read.size() < static_cast<int>(row.text.size())) {
    read.Append(row.text[static_cast<std::size_t>(read.size())]);
  }
  int state = read.Repeated();
  const int length = read.Length(state);
  if (length < parameters_.shortest_match) return 0;
  const double most = std::min<double>(row.limit, parameters_.drafts_per_match * length);
  Proposal& proposal = *row.proposal;
  double probability = 1;
  for (int known = length; proposal.size() + 1 <= most; ++known) {
    SuffixAutomaton::Continuation next = read.Likeliest(state, known);
    if (next.state == SuffixAutomaton::kNone) next = read.Likeliest(read.Repeated(), known);
    probability *= next.probability;
    if (probability < parameters_.min_probability) break;
    proposal.Append(next.token);
    state = next.state;
  }
  proposal.set_match_length(length);
  return proposal.size();
}

}  // namespace ptgc
