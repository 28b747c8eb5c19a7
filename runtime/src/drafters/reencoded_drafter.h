// ReencodedDrafter: drafts of a model that has another tokenizer than the target.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/token.h"
#include "drafters/drafter.h"
#include "drafters/model_drafter.h"
#include "drafters/reencoding.h"
#include "sampling/proposal.h"
#include "sampling/row_sampling.h"

namespace ptgc {

// The text is decoded with the target's tokenizer and encoded with the drafter's, and drafts the
// other way round (as in transformers' universal assisted generation). The drafter always drafts
// its likeliest tokens, so acceptance treats its drafts as certain.
class ReencodedDrafter : public Drafter {
 public:
  // Drafts end before the first id that the target lacks.
  ReencodedDrafter(std::unique_ptr<ModelDrafter> drafter, int batch, int max_drafts,
                   std::int64_t target_vocab_size, Reencoding reencoding);

  void Begin(int row) override;
  void Truncate(int row, int length) override;
  void CopyRow(int from, int to) override;
  int Propose(const DraftRow& row) override;
  void Draft(std::span<const DraftRow> rows) override;
  void Observe(int row, const Observation& seen) override;
  double Cost(int count) const override { return drafter_->Cost(count); }
  double CatchUp(const DraftRow& row) const override;
  double spent() const override { return drafter_->spent(); }
  double engine_seconds() const override { return drafter_->engine_seconds(); }
  void Clear() override { drafter_->Clear(); }
  std::vector<double> Measure(const EngineRuns& runs) override { return drafter_->Measure(runs); }

 private:
  // One row in the drafter's vocabulary.
  struct Row {
    std::vector<TokenId> text;  // As in the last round with drafts.
    std::size_t read = 0;       // Number of the target's tokens that it covers.
    Proposal drafts;            // Drafts after the text.
    RowSampling likeliest;      // How the drafter chooses tokens.
  };
  void Read(const DraftRow& row);

  std::unique_ptr<ModelDrafter> drafter_;  // Drafts in its own vocabulary.
  int max_drafts_;                         // Most drafts of a row.
  std::int64_t target_vocab_size_;         // Ids that the target knows.
  Reencoding reencoding_;                  // Converts between the vocabularies.
  std::vector<Row> rows_;                  // [batch]
  std::vector<DraftRow> asked_;            // [batch], requests of the round.
};

}  // namespace ptgc
