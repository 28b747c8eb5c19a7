// SpeculativeLoop: draft -> verify -> accept -> commit.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "drafters/acceptance_estimate.h"
#include "drafters/draft_length.h"
#include "drafters/drafter.h"
#include "loops/decode_loop.h"
#include "loops/overlap.h"
#include "loops/row_drafts.h"
#include "models/causal_model.h"
#include "models/encoder.h"
#include "sampling/acceptance.h"
#include "sampling/proposal.h"
#include "sampling/row_sampling.h"
#include "sampling/target_choice.h"

namespace ptgc {

// The parts of the loop.
struct SpeculativeParts {
  std::unique_ptr<Encoder> encoder;     // Reads sources; null if there are none.
  std::unique_ptr<Drafter> drafter;     // Makes drafts; null for plain decoding.
  std::unique_ptr<CausalModel> target;  // Verifies; bound to the buffers of the two above.
  DecodePlan plan;                      // The policies; no proposal is larger than its tree.
  TreeSpec tree;                        // The shape of drafts that are still to be made.
  RoleShapes shapes;                    // The shapes of the target's rounds.
  DraftLength draft_length;             // How many drafts pay.
  AcceptanceRates rates;                // How often drafts were accepted in other texts.
  int num_draft_tokens = 0;             // The most drafts of a row.
  int max_length = 0;                   // Most tokens of a text.
};

// Works with any drafter, rule and batch; without a drafter, a round adds one token.
class SpeculativeLoop : public DecodeLoop {
 public:
  // `sessions` has one per row of the batch.
  SpeculativeLoop(SpeculativeParts parts, std::span<Session* const> sessions);

  bool has_prefill() const override { return true; }
  int max_drafts() const override { return num_draft_tokens_; }
  const char* idle_reason() const override {
    return parts_.drafter == nullptr ? nullptr : parts_.drafter->idle_reason();
  }
  void Start(const Session& session, const Request& request) override;
  RoundReport Round(std::span<Turn> turns) override;
  void Begin(const Session& session) override;
  void Rewind(Session& session) override;
  void Fork(const Session& from, Session& to) override;
  void Clear() override;
  std::vector<double> Measure(const EngineRuns& runs) override;

 private:
  // The state of one row of the batch.
  struct Row {
    Session* session;           // Its text.
    Proposal proposal;          // Its drafts.
    Acceptance acceptance;      // Their outcome.
    RowDrafts drafts;           // What the drafter does for it.
    RowSampling sampling = {};  // How its tokens are chosen.
  };
  double Draft(std::span<Turn> turns);
  void CutDrafts();
  void Verify(std::span<Turn> turns, RoundReport& report);
  int WriteInputs(std::span<const Turn> turns);
  bool TakesPending(std::span<const Turn> turns) const;
  void Accept(std::span<Turn> turns);
  void Commit(std::span<Turn> turns);
  void Settle(std::span<const Turn> turns, int width);

  void Encode(std::span<Turn> turns);
  int Room(const Session& session) const;
  int ChunkLength(const Turn& turn) const;
  void OfferDrafts(Turn& turn);
  bool ReadsLogits(const Row& row) const;
  void Choose(const Turn& turn);
  void ShowDrafter(const Turn& turn, bool is_reading);
  void Emit(Turn& turn);
  void AddToken(Turn& turn, TokenId token);
  Drafting ToDraft() const { return {*parts_.drafter, parts_.draft_length, parts_.tree}; }
  Row& RowOf(const Session& session) { return rows_[static_cast<std::size_t>(session.row())]; }

  SpeculativeParts parts_;            // The loop's parts.
  int num_draft_tokens_;              // The most drafts of a row that a round has room for.
  Overlap overlap_;                   // Makes drafts while the target runs.
  std::vector<Row> rows_;             // [batch]
  TargetChoice choice_;               // Chooses tokens if logits are read.
  std::vector<DraftOffer> offers_;    // [batch], of the rows with turns.
  std::vector<DraftRow> draft_rows_;  // [batch], of the same rows.
  std::vector<DraftOffer> drafted_;   // [batch], of the same rows, when their drafts are known.
  std::vector<RowInput> inputs_;      // [batch]
  std::vector<Source> sources_;       // [batch], of the rows whose texts begin.
};

}  // namespace ptgc
