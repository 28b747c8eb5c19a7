// ModelDrafter: a smaller causal language model that drafts a chain, token by token.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/names.h"
#include "drafters/cost_curve.h"
#include "drafters/drafter.h"
#include "models/causal_model.h"
#include "sampling/sampler.h"

namespace ptgc {

// Source: Leviathan et al., arXiv 2211.17192, section 2; Chen et al., arXiv 2302.01318.
//
//   cache of a row    [ text that the target keeps ............ ][ drafts but the last ]
//                     0                                  held    until the next round
class ModelDrafter : public Drafter {
 public:
  // `model` has a chain of `max_drafts` runs. `context_length` is its own: beyond it there are no
  // drafts. Its logits may be padded to another size than the target's; then it drafts what it
  // finds likeliest, and no id that the other lacks.
  ModelDrafter(std::unique_ptr<CausalModel> model, std::int64_t context_length,
               std::int64_t target_vocab_size, int max_drafts, AcceptanceRule rule,
               CostCurve costs);

  void Begin(int row) override;
  void Truncate(int row, int length) override;
  void CopyRow(int from, int to) override;
  int Offer(const DraftRow& row) override;
  void Draft(std::span<const DraftRow> rows) override;
  bool is_pending() const override { return is_pending_; }
  void Collect(std::span<const DraftRow> rows) override;
  std::vector<Tensor> PendingIds() const override { return model_->ChainIds(); }
  void Accept(int row, int accepted) override;
  double Cost(int count) const override;
  double CatchUp(const DraftRow& row) const override;
  // Expected seconds of reading so many tokens before the first draft, beyond what Cost includes.
  double Reading(int tokens) const;
  double spent() const override { return spent_; }
  double engine_seconds() const override { return engine_seconds_; }
  DraftProbabilities Probabilities(int row, int count) const override;
  CausalModel* model() override { return model_.get(); }

 private:
  // What a row's cache holds.
  struct Held {
    int length = 0;       // Tokens of the text.
    int drafted = 0;      // Draft tokens of the last round behind them.
    bool begins = false;  // Whether the text is being read for the first time.
  };
  bool has_same_size() const { return model_->vocab_size() == target_vocab_size_; }
  bool Draws(const DraftRow& row) const;
  bool Wants(const DraftRow& row, int draft) const;
  void HoldAtMost(int row, int length);
  void ReadTexts(std::span<const DraftRow> rows);
  void AddDrafts(std::span<const DraftRow> rows, bool drawn);
  void AddDraft(const DraftRow& row, int draft);
  void Start(int width, Wanted wanted);
  std::span<float> Storage(int row, int draft) const;

  std::unique_ptr<CausalModel> model_;  // Runs the engine.
  std::int64_t context_length_;         // Positions that the model was made for.
  std::int64_t target_vocab_size_;      // Ids that the target knows.
  int max_drafts_;                      // Drafts of a row at most.
  AcceptanceRule rule_;                 // What the target will ask of the drafts.
  CostCurve costs_;                     // Of the drafter's rounds.
  Sampler sampler_;                     // Chooses drafts.
  std::vector<Held> held_;              // [batch]
  std::vector<RowInput> inputs_;        // [batch]
  Buffer probabilities_;                // [batch, max_drafts, vocab_size], rule speculative.
  bool is_pending_ = false;             // Whether drafts are still to be collected.
  double engine_seconds_ = 0;           // Inside the engine, last Draft and Collect.
  double spent_ = 0;                    // By the cost curve, last Draft.
};

}  // namespace ptgc
