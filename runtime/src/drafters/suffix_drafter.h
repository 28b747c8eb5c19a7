// SuffixDrafter: continues the longest suffix of the text that occurred before.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "bundle/plan.h"
#include "drafters/drafter_seat.h"
#include "drafters/lookup_drafter.h"
#include "drafters/suffix_automaton.h"

namespace ptgc {

class Fields;

// The plan's parameters of it.
struct SuffixParameters : DrafterParameters {
  double drafts_per_match = 0;  // Most drafts for each token of the suffix.
  double min_probability = 0;   // Drafts end where their path is less frequent than this.
};

void ReadSuffix(const Fields& data, DrafterPlan& plan);
std::unique_ptr<Drafter> MakeSuffix(DrafterSeat& seat);

// Source: SuffixDecoding, Oliaro et al., arXiv 2411.04975, section 3; the automaton: SAM-Decoding,
// Hu et al., arXiv 2411.10666, section 3. From the state of the suffix it takes the likeliest
// continuation, token by token. At the end of the text, which nothing follows yet, it goes on from
// the suffix again, so that a text that repeats itself is continued.
class SuffixDrafter : public LookupDrafter {
 public:
  // For `batch` texts of at most `max_length` tokens.
  SuffixDrafter(const SuffixParameters& parameters, int batch, int max_length);

  void Begin(int row) override { Read(row).Clear(); }
  void Truncate(int row, int length) override;
  void CopyRow(int from, int to) override { Read(to) = Read(from); }
  int Propose(const DraftRow& row) override;

 private:
  // What was read of a row's text.
  SuffixAutomaton& Read(int row) { return read_[static_cast<std::size_t>(row)]; }

  SuffixParameters parameters_;        // How far a suffix is continued.
  std::vector<SuffixAutomaton> read_;  // [batch]
};

}  // namespace ptgc
