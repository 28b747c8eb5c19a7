// ModelDrafter: a smaller causal language model that drafts a chain or a tree, depth by depth.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/names.h"
#include "drafters/cost_curve.h"
#include "drafters/drafter.h"
#include "drafters/drawn_drafts.h"
#include "drafters/dynamic_tree.h"
#include "drafters/text_states.h"
#include "models/causal_model.h"

namespace ptgc {

// Source: Leviathan et al., arXiv 2211.17192, section 2; Chen et al., arXiv 2302.01318. Trees: Miao
// et al. (SpecInfer), arXiv 2305.09781, section 3.
//
//   cache of a row    [ text that the target keeps ............ ][ drafts but the deepest ]
//                     0                                  held    until the next round
//
// A run reads the nodes of one depth, each of which sees the text and its ancestors, and gives each
// node the children that the plan's tree has (DrawnDrafts). If that tree is dynamic, a run reads as
// many nodes, those that are likeliest, and the likeliest of all their children are the proposal
// (DynamicTree).
//
// Some models read hidden states together with tokens (EAGLE: Li et al., arXiv 2401.15077, section
// 4.1): a token of the text with the target's state of the token before it, so that the first token
// is not read at all, and a draft with the model's own state of its parent. Accepted drafts are
// read again in the next round, now with the target's states.
class ModelDrafter : public Drafter {
 public:
  // `tree` is the plan's, or the part of it that drafts fill; proposals have its nodes ordered by
  // depth. A dynamic one is the plan's. `model` allows a chain of as many runs as there are depths.
  // There are no drafts beyond the model's `context_length`. The model's logits may be padded to
  // another size than the target's; it then drafts the likeliest tokens, and never an id that the
  // target lacks. With `shares_cache` its layers are the target's: it does not read again what the
  // target has read, and the target maintains the cache.
  ModelDrafter(std::unique_ptr<CausalModel> model, bool shares_cache, std::int64_t context_length,
               std::int64_t target_vocab_size, TreeSpec tree, bool is_dynamic, AcceptanceRule rule,
               CostCurve costs);

  void Begin(int row) override;
  void Truncate(int row, int length) override;
  void CopyRow(int from, int to) override;
  int Propose(const DraftRow& row) override;
  void Draft(std::span<const DraftRow> rows) override;
  bool is_pending() const override { return is_pending_; }
  void Collect(std::span<const DraftRow> rows) override;
  std::vector<Tensor> PendingIds() const override { return model_->ChainIds(); }
  void Observe(int row, const Observation& seen) override;
  double Cost(int count) const override { return drafting_[static_cast<std::size_t>(count)]; }
  double CatchUp(const DraftRow& row) const override;
  // Expected seconds of reading this many tokens before the first draft, beyond what Cost includes.
  double Reading(int tokens) const;
  double spent() const override { return spent_; }
  double engine_seconds() const override { return engine_seconds_; }
  std::span<const double> Gains(int row) const override;
  DraftProbabilities Probabilities(int row, int count) const override {
    return drawn_.Probabilities(row, count);
  }
  void Clear() override {
    if (!shares_cache_) model_->kv_cache().Clear();
  }
  std::vector<double> Measure(const EngineRuns& runs) override;
  int Room(int length) const override { return model_->kv_cache().Room(length); }

 private:
  // A dynamic tree while it is drafted.
  struct Growth {
    DynamicTree tree;             // All candidates.
    Proposal read;                // Those that are read, by depth.
    std::vector<int> candidates;  // The candidate of each of its nodes; DynamicTree::kRoot first.
  };
  // What a row's cache holds, and the shape of its drafts.
  struct Row {
    int length = 0;                // Tokens of the text.
    int drafted = 0;               // Nodes of the last round after them.
    bool begins = false;           // Whether the text is being read for the first time.
    int first = 0;                 // First node of the depth being read ...
    int end = 0;                   // ... and the one after the last.
    int first_above = 0;           // First node of the depth above.
    std::vector<int> above;        // For each node being read: index of its parent in the last run.
    std::optional<Growth> growth;  // Of a dynamic tree.
  };
  Row& RowAt(int row) { return rows_[static_cast<std::size_t>(row)]; }
  const Row& RowAt(int row) const { return rows_[static_cast<std::size_t>(row)]; }
  // The part of a text that the model reads.
  std::span<const TokenId> TextOf(const DraftRow& row) const {
    return row.text.subspan(states_ == nullptr || row.text.empty() ? 0 : 1);
  }
  int max_drafts() const { return tree_.num_nodes() - 1; }
  bool is_dynamic() const { return likely_ != nullptr; }
  // The drafts that are read: the proposal, unless the tree is dynamic.
  const Proposal& ReadOf(const DraftRow& row) const {
    return is_dynamic() ? RowAt(row.row).growth->read : *row.proposal;
  }
  bool has_same_size() const { return model_->vocab_size() == target_vocab_size_; }
  bool Draws(const DraftRow& row) const;
  bool Wants(const DraftRow& row, int depth) const;
  void HoldAtMost(int row, int length);
  void ReadTexts(std::span<const DraftRow> rows);
  void AddDrafts(std::span<const DraftRow> rows, bool drawn);
  void SetText(const DraftRow& row, std::size_t count);
  void SetInput(const DraftRow& row, int depth);
  void AddDepth(const DraftRow& row, int depth);
  void AddDraft(const DraftRow& row, int depth);
  void AddChildren(const DraftRow& row, int node);
  void AddCandidates(const DraftRow& row, int depth);
  void Start(int width, Wanted wanted);

  std::unique_ptr<CausalModel> model_;    // Runs the engine.
  std::unique_ptr<TextStates> states_;    // Of the target; null where it reads tokens alone.
  bool shares_cache_;                     // Whether its layers are the target's.
  std::int64_t context_length_;           // Positions that the model was made for.
  std::int64_t target_vocab_size_;        // Ids that the target knows.
  TreeSpec tree_;                         // The tree of a full proposal.
  std::vector<int> depths_;               // [height + 2], the first node of each depth.
  std::vector<int> parents_;              // [height + 1], nodes of each depth that have children.
  CostCurve costs_;                       // Costs of the drafter's rounds.
  std::vector<double> drafting_;          // [nodes], costs of making so many drafts.
  DrawnDrafts drawn_;                     // Chooses drafts.
  std::unique_ptr<LikelyTokens> likely_;  // Finds candidates; null unless the tree is dynamic.
  std::vector<Row> rows_;                 // [batch]
  std::vector<RowInput> inputs_;          // [batch]
  std::vector<int> kept_;                 // Accepted drafts that were read.
  bool is_pending_ = false;               // Whether drafts are still to be collected.
  double engine_seconds_ = 0;             // Engine time of the last Draft and Collect.
  double spent_ = 0;                      // Cost of the last Draft by the cost curve.
};

}  // namespace ptgc
