// OverlappedDrafter: drafts the next block while the target verifies this one.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/names.h"
#include "base/token.h"
#include "base/worker.h"
#include "drafters/drafter.h"
#include "sampling/counted_path.h"
#include "sampling/proposal.h"

namespace ptgc {

// The post-verify of PEARL (Liu et al., arXiv 2408.11850, section 4.2). Behind a chain d1 d2 d3
// that the target is verifying, the drafter goes on, on a thread of its own, as if all of it were
// accepted. Its first draft g guesses the token that the target adds itself, the bonus:
//
//   target     verifies d1 d2 d3 -> accepts all, bonus b    verifies a1 a2 a3 -> ...
//   drafter    d3 -> g, g -> a1, a1 -> a2, a2 -> a3         a3 -> g', g' -> ...
//
// If b is g, then a1 a2 a3 are the next drafts, which nobody has to wait for. Otherwise they are
// dropped, and the drafter's cache is cut to the text.
//
// Lossless under every rule that is: a draft depends on the text before it, on the seed, and on its
// position (under `block` also on its place in its block), so a1 a2 a3 are the drafts that the next
// round would make itself. With sampling they are drawn from the same q, with the same noise, and
// judged by it. Whether they are used depends on g and b only, which share the noise of the bonus,
// and no draft or acceptance has that noise. Overlap thus changes when drafts are made, and never
// what is written, unless the number of drafts is chosen by what they cost.
class OverlappedDrafter : public Drafter {
 public:
  // `drafter` makes chains of up to `max_ahead` tokens, one of them the guess. It reads nothing of
  // the target but its text, and nobody else uses its engine or its cache. Drafts keep the
  // distributions over `num_ids` tokens that they were drawn from, if the rule needs them.
  OverlappedDrafter(std::unique_ptr<Drafter> drafter, int max_ahead, int batch, int max_length,
                    AcceptanceRule rule, std::int64_t num_ids);

  void Begin(int row) override;
  void Truncate(int row, int length) override;
  void CopyRow(int from, int to) override;
  void Clear() override { drafter_->Clear(); }
  int Propose(const DraftRow& row) override;
  void Draft(std::span<const DraftRow> rows) override;
  bool drafts_ahead() const override { return true; }
  void DraftAhead(std::span<const DraftRow> rows) override;
  void FinishAhead() override;
  void DropAhead() noexcept override { worker_.Drop(); }
  AheadDrafts ahead(int row) const override;
  void Observe(int row, const Observation& seen) override;
  double Cost(int count) const override { return drafter_->Cost(count); }
  double CatchUp(const DraftRow& row) const override {
    return RowAt(row.row).is_next ? 0 : drafter_->CatchUp(row);
  }
  double spent() const override { return spent_; }
  double engine_seconds() const override { return engine_seconds_; }
  std::vector<double> Measure(const EngineRuns& runs) override { return drafter_->Measure(runs); }
  DraftProbabilities Probabilities(int row, int count) const override;

 private:
  struct Row {
    std::vector<TokenId> text = {};        // The text and the drafts that others are made behind.
    Proposal ahead = Proposal(0);          // The guess, and drafts behind it.
    const Proposal* verified = nullptr;    // The drafts of that text.
    bool goes_beyond = false;              // Whether the drafter holds more than what is text ...
    int agreed = 0;                        // ... for sure: the row's first so many tokens.
    bool is_next = false;                  // Whether the text is `text` and the guess.
    bool is_used = false;                  // Whether this round's drafts were made ahead ...
    bool is_running = false;               // ... and whether others are made behind them.
    int made = 0;                          // How many.
    std::vector<int> indices = {};         // [1 + drafts], for DraftProbabilities.
    std::optional<CountedPath> path = {};  // Counts `verified` while drafts are made behind it.
  };
  Row& RowAt(int row) { return rows_[static_cast<std::size_t>(row)]; }
  const Row& RowAt(int row) const { return rows_[static_cast<std::size_t>(row)]; }
  void Cut(int row);
  void Assume(int row, int count);
  void KeepProbabilities(const DraftRow& row);
  void Prepare(const DraftRow& row);
  void RunAhead();
  std::span<float> Distributions(int row) const;

  std::unique_ptr<Drafter> drafter_;  // Makes the drafts.
  int max_ahead_;                     // Most tokens made ahead.
  AcceptanceRule rule_;               // How the target judges drafts.
  std::size_t num_ids_;               // Entries of a distribution.
  std::vector<int> chain_;            // [max_ahead], the nodes 1, 2, ...
  std::vector<Row> rows_;             // [batch]
  std::vector<DraftRow> asked_;       // [batch], rows that have no drafts yet.
  std::vector<DraftRow> ahead_;       // [batch], rows that are drafted ahead.
  Buffer probabilities_;              // [batch, max_ahead, num_ids], if the rule needs them.
  double engine_seconds_ = 0;         // Engine time of the last Draft.
  double spent_ = 0;                  // Its cost by the cost curve.
  Worker worker_;                     // Drafts ahead; ends before all of the above.
};

}  // namespace ptgc
