// HeadsDrafter: heads on the target's last hidden state, which all draft in one run.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/memory.h"
#include "drafters/drafter.h"
#include "drafters/drafter_seat.h"
#include "engines/engine.h"

namespace ptgc {

inline constexpr std::array<std::string_view, 1> kHeadsRoles = {"heads"};

// Source: Medusa, Cai et al., arXiv 2401.10774, section 2. The heads read the hidden state at the
// last accepted node, and draft what follows the bonus token. Some read the bonus token as well,
// and their own drafts: Hydra, Ankner et al., arXiv 2402.05109; Wertheimer et al., arXiv
// 2404.19124. All of that is in the graph, which defines which head drafts which node of the plan's
// tree.
class HeadsDrafter : public Drafter {
 public:
  // The heads draft the tree `whole`, of which `tree` is used. `cost` is the cost of a run in
  // seconds.
  HeadsDrafter(std::unique_ptr<Engine> engine, const Port& hidden_states, int batch,
               const TreeSpec& whole, TreeSpec tree, std::int64_t vocab_size, double cost);

  void Begin(int row) override { knows_[static_cast<std::size_t>(row)] = false; }
  void Truncate(int row, int /*length*/) override { Begin(row); }
  void CopyRow(int from, int to) override;
  int Propose(const DraftRow& row) override;
  void Draft(std::span<const DraftRow> rows) override;
  void Observe(int row, const Observation& seen) override;
  double Cost(int count) const override { return count > 0 ? cost_ : 0; }
  double spent() const override { return spent_; }
  double engine_seconds() const override { return engine_seconds_; }
  std::vector<double> Measure(const EngineRuns& runs) override;

 private:
  // The drafts of the heads for a row.
  std::span<const TokenId> DraftsOf(int row) {
    return {drafts_.As<TokenId>() + row * num_drafts_, static_cast<std::size_t>(num_drafts_)};
  }
  void* StateOf(int row) const {
    return hidden_states_.At(static_cast<std::size_t>(row) * row_bytes_);
  }

  std::unique_ptr<Engine> engine_;  // Runs the graph.
  std::shared_ptr<Memory> memory_;  // Memory of the hidden states.
  int num_drafts_;                  // Drafts of the heads for a row.
  TreeSpec tree_;                   // The tree of a full proposal.
  std::vector<int> drafted_;        // [nodes], of the tree's nodes in that of the heads.
  std::vector<int> places_;         // [nodes], of the tree's nodes in the proposal; -1 for none.
  std::int64_t vocab_size_;         // Ids that the target knows.
  double cost_;                     // Cost of a run.
  std::size_t row_bytes_;           // Bytes of one hidden state.
  Block hidden_states_;             // [batch, 1, hidden_size], each row's last one.
  Buffer last_ids_;                 // [batch, 1], each text's last token, for heads that read it.
  Buffer drafts_;                   // [batch, drafts of the heads]
  std::unique_ptr<Call> call_;      // The engine's only call.
  std::vector<bool> knows_;         // [batch], whether a row's state matches its text.
  double engine_seconds_ = 0;       // Engine time of the last Draft.
  double spent_ = 0;                // Cost of the last Draft by the cost curve.
};

std::unique_ptr<Drafter> MakeHeads(DrafterSeat& seat);

}  // namespace ptgc
