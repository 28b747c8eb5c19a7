// BlockDrafter: a model that drafts a whole proposal in one run.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/names.h"
#include "bundle/plan.h"
#include "drafters/cost_curve.h"
#include "drafters/drafter.h"
#include "drafters/drafter_seat.h"
#include "drafters/drawn_drafts.h"
#include "drafters/dynamic_tree.h"
#include "drafters/text_states.h"
#include "models/causal_model.h"

namespace ptgc {

class Fields;

// Reads the kinds "block" and "pard".
void ReadBlock(const Fields& data, DrafterPlan& plan);
// Reads the kind "layers".
void ReadLayers(const Fields& data, DrafterPlan& plan);
std::unique_ptr<Drafter> MakeBlock(DrafterSeat& seat);

// Three kinds of models. Here t0 t1 t2 is a text, and M the mask token:
//
//   pard    a causal language model                           rows     t0 t1 t2  M  M
//           (An et al., arXiv 2504.18583, section 3)          drafts         d1 d2 d3
//
//   block   rows that all see each other, and of the text     rows     s0 s1 t2  M  M  M
//           before the last token the target's states s       drafts            d1 d2 d3
//           (DFlash, arXiv 2602.06036, section 4)
//
//   layers  each layer behind the last one drafts a token     rows     (t1,s0) (t2,s1)
//           further ahead, and reads the drafts before it     drafts            d1 d2 d3
//           (DeepSeek-V3, arXiv 2412.19437, section 2.2)
//
// A run reads what the text gained since the last one, which stays in the cache, and a block, which
// does not. A node of depth d gets one of the likeliest tokens of draft d, whatever its ancestors
// are: the model gives marginals. If the plan's tree is dynamic, the proposal is the tree of as
// many nodes whose paths are likeliest by the product of marginals (DDTree). Layer k has read k - 1
// drafts at the last rows of the text, which the next run therefore reads again.
class BlockDrafter : public Drafter {
 public:
  // `tree` is the plan's, and so is `is_dynamic`. There are no drafts beyond the model's
  // `context_length`, and none that the target, which has `target_vocab_size` tokens, lacks.
  BlockDrafter(std::unique_ptr<CausalModel> model, const BlockParameters& parameters,
               std::int64_t context_length, std::int64_t target_vocab_size, TreeSpec tree,
               bool is_dynamic, AcceptanceRule rule, CostCurve costs);

  void Begin(int row) override { HoldAtMost(row, 0); }
  void Truncate(int row, int length) override { HoldAtMost(row, Settled(length)); }
  void CopyRow(int from, int to) override;
  void Clear() override { model_->kv_cache().Clear(); }
  int Propose(const DraftRow& row) override;
  void Draft(std::span<const DraftRow> rows) override;
  void Observe(int row, const Observation& seen) override;
  double Cost(int count) const override;
  double CatchUp(const DraftRow& row) const override;
  double spent() const override { return spent_; }
  double engine_seconds() const override { return engine_seconds_; }
  std::span<const double> Gains(int row) const override {
    return grown_.empty() ? std::span<const double>()
                          : grown_[static_cast<std::size_t>(row)].gains();
  }
  DraftProbabilities Probabilities(int row, int count) const override {
    return drawn_.Probabilities(row, count);
  }
  std::vector<double> Measure(const EngineRuns& runs) override;

 private:
  // What a row's cache holds.
  struct Row {
    int length = 0;       // Tokens of the text.
    bool begins = false;  // Whether the text is being read for the first time.
  };
  Row& RowAt(int row) { return rows_[static_cast<std::size_t>(row)]; }
  const Row& RowAt(int row) const { return rows_[static_cast<std::size_t>(row)]; }
  int max_drafts() const { return tree_.num_nodes() - 1; }
  // Row of logits that drafts what follows a node.
  int LogitsOf(int depth) const { return parameters_.first_logits + depth; }
  // The part of a text that the model reads.
  std::span<const TokenId> TextOf(const DraftRow& row) const {
    return row.text.subspan(parameters_.reads_pairs && !row.text.empty() ? 1 : 0);
  }
  // Rows of a text of this length that are not read again; the last token always is, because
  // drafting starts at its row.
  int Settled(int length) const {
    return length - (parameters_.reads_pairs ? 1 : 0) - std::max(parameters_.rows_read_again, 1);
  }
  void HoldAtMost(int row, int length);
  int Masks(int count) const;
  bool ReadsChunk(std::span<const DraftRow> rows);
  void RunBlocks(std::span<const DraftRow> rows);
  void SetText(const DraftRow& row, int count);
  void Run(int width, Wanted wanted);
  bool Draws(const DraftRow& row) const;
  void AddLikeliest(const DraftRow& row);
  void AddChildren(const DraftRow& row);
  void Grow(const DraftRow& row);

  std::unique_ptr<CausalModel> model_;    // Runs the engine.
  std::unique_ptr<TextStates> states_;    // Of the target; null where it reads tokens alone.
  BlockParameters parameters_;            // What a run reads and drafts.
  std::int64_t context_length_;           // Positions that the model was made for.
  std::int64_t target_vocab_size_;        // Ids that the target knows.
  TreeSpec tree_;                         // The tree of a full proposal.
  TreeSpec chain_;                        // Shape of the masks of a run.
  std::vector<TokenId> masks_;            // [block_size - 1]
  CostCurve costs_;                       // Costs of the drafter's rounds.
  DrawnDrafts drawn_;                     // Chooses drafts from logits.
  std::unique_ptr<LikelyTokens> likely_;  // Finds candidates; null unless the tree is dynamic.
  std::vector<DynamicTree> grown_;        // [batch]; none unless the tree is dynamic.
  std::vector<Row> rows_;                 // [batch]
  std::vector<RowInput> inputs_;          // [batch]
  double engine_seconds_ = 0;             // Engine time of the last Draft.
  double spent_ = 0;                      // Cost of the last Draft by the cost curve.
};

}  // namespace ptgc
