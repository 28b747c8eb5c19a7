// CausalPorts: what a causal language model's engine reads and writes, apart from its states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/names.h"
#include "base/token.h"
#include "engines/engine.h"
#include "sampling/tree.h"

namespace ptgc {

// One sequence's input to a round: consecutive committed text, and drafts attached to its end.
struct RowInput {
  std::span<const TokenId> tokens;  // Text whose states are not in the cache yet.
  std::span<const TokenId> drafts;  // Draft tokens after it.
  const TreeSpec* tree = nullptr;   // Shape of the drafts; its root is the last token.
  int write_index = 0;              // Slot of the first token: the committed length.
  // Node of the first draft. If a tree is drafted depth by depth, earlier nodes are already in the
  // cache, from `write_index` on, and there are no `tokens`. The role's mask_extra must have room
  // for these nodes.
  int first_node = 1;
  // Length of blocks of rows that all see each other; 0 for text in order.
  int block_length = 0;
  // If not 0, all rows see the slots below this, which lies behind the round, instead of those
  // before the round.
  int seen = 0;
  // The positions of `tokens`; by default those from `write_index` on.
  std::span<const int> positions = {};
  // Row of the first logits, at least -1; by default that of the last token.
  std::optional<int> first_logits = {};
  int least_logits = 0;  // Logits of rows before this are those of this row.
  // Of a model that reads hidden states: where those of `tokens` lie, one after the other. Without
  // them each row has the states of a row that the last run chose.
  const void* states = nullptr;
  std::span<const int> carried = {};  // Which.

  int count() const { return static_cast<int>(tokens.size() + drafts.size()); }
  // Slot of the first row.
  int first_slot() const { return write_index + first_node - 1; }
};

// One run's ports in host memory. All inputs are in one buffer, so that one copy brings them to a
// device.
class CausalPorts {
 public:
  // Has room for `batch` sequences of at most `width` rows, and `num_logits` rows of logits. The
  // mask of a round covers `mask_extra` slots in addition to the round's own.
  CausalPorts(int batch, int width, int num_logits, bool has_tree_mask, int mask_extra = 0);

  // Writes one sequence's inputs for a run of this width; its sliding caches begin at position
  // `window_offset`.
  void Fill(int row, const RowInput& input, int width, int num_logits, int window_offset);
  // The inputs at one shape. If `handed_on` has ports of [batch, 1], the ids of every row from
  // column `first` on are taken from these ports, which earlier runs wrote.
  std::vector<Tensor> Inputs(int width, int num_logits, std::span<const Tensor> handed_on = {},
                             int first = 0) const;
  // Port next_ids, [batch, num_logits].
  Tensor NextIds(int num_logits) const;
  // The same for one sequence.
  std::span<const TokenId> NextIdsOf(int row, int num_logits) const;

 private:
  // Where each input begins.
  struct Offsets {
    std::size_t write_index = 0;    // [batch]
    std::size_t mask_start = 0;     // [batch]
    std::size_t row_count = 0;      // [batch]
    std::size_t window_offset = 0;  // [batch]
    std::size_t logits_rows = 0;    // [batch, num_logits]
    std::size_t position_ids = 0;   // [batch, width]
    std::size_t input_ids = 0;      // [batch, width]
    std::size_t tree_mask = 0;      // [batch, width, width + mask_extra]
    std::size_t end = 0;            // Total bytes.
  };
  static Offsets Layout(int batch, int width, int num_logits, int mask_slots);

  std::int64_t* Numbers(std::size_t offset) const {
    return reinterpret_cast<std::int64_t*>(inputs_.As<char>() + offset);
  }
  void FillTreeMask(int row, const RowInput& input, int width);

  int batch_;           // Sequences.
  bool has_tree_mask_;  // Whether the graph takes a tree mask.
  int mask_extra_;      // Slots that it covers besides the round's own.
  Offsets offsets_;     // Where each input begins.
  Buffer inputs_;       // All inputs.
  Buffer next_ids_;     // [batch, num_logits]
};

}  // namespace ptgc
