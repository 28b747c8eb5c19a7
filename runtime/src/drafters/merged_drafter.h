// MergedDrafter: several drafters, one of which drafts for a row in each round.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "drafters/drafter.h"
#include "drafters/drafter_seat.h"

namespace ptgc {

class Fields;

void ReadMerged(const Fields& data, DrafterPlan& plan);
std::unique_ptr<Drafter> MakeMerged(DrafterSeat& seat);

// Drafters that look up earlier text come first, one that runs a model comes last. The loop chooses
// by DraftRow::part which of them a row asks; all of them follow all texts. At most one of them
// runs a model: costs and pending drafts are that one's.
class MergedDrafter : public Drafter {
 public:
  // In the order of the plan's parts; `limits` has the most drafts of each.
  MergedDrafter(std::vector<std::unique_ptr<Drafter>> parts, std::vector<int> limits, int batch);

  void Begin(int row) override;
  void Truncate(int row, int length) override;
  void CopyRow(int from, int to) override;
  void Clear() override;
  int Propose(const DraftRow& row) override;
  void Draft(std::span<const DraftRow> rows) override;
  bool is_pending() const override { return parts_.back()->is_pending(); }
  void Collect(std::span<const DraftRow> rows) override;
  std::vector<Tensor> PendingIds() const override { return parts_.back()->PendingIds(); }
  bool drafts_ahead() const override { return parts_.back()->drafts_ahead(); }
  void DraftAhead(std::span<const DraftRow> rows) override;
  void FinishAhead() override { parts_.back()->FinishAhead(); }
  void DropAhead() noexcept override { parts_.back()->DropAhead(); }
  AheadDrafts ahead(int row) const override { return parts_.back()->ahead(row); }
  void Observe(int row, const Observation& seen) override;
  double Cost(int count) const override { return parts_.back()->Cost(count); }
  double CatchUp(const DraftRow& row) const override { return Part(row).CatchUp(row); }
  double spent() const override { return parts_.back()->spent(); }
  double engine_seconds() const override { return parts_.back()->engine_seconds(); }
  std::vector<double> Measure(const EngineRuns& runs) override {
    return parts_.back()->Measure(runs);
  }
  std::span<const double> Gains(int row) const override {
    const int part = drafted_by_[static_cast<std::size_t>(row)];
    return parts_[static_cast<std::size_t>(part)]->Gains(row);
  }
  DraftProbabilities Probabilities(int row, int count) const override;

 private:
  Drafter& Part(const DraftRow& row) const { return *parts_[static_cast<std::size_t>(row.part)]; }
  std::span<const DraftRow> RowsOf(std::size_t part, std::span<const DraftRow> rows);

  std::vector<std::unique_ptr<Drafter>> parts_;  // In the order of the plan.
  std::vector<int> limits_;                      // Most drafts of each.
  std::vector<int> drafted_by_;                  // [batch], the part that drafted last.
  std::vector<DraftRow> asked_;                  // [batch], the rows of one part.
};

}  // namespace ptgc
