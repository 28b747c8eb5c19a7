// CausalModel: a causal language model's engine with all its buffers; targets and drafters are one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "buffer.h"
#include "bundle.h"
#include "engine.h"
#include "kv_cache.h"
#include "logits.h"
#include "plan.h"
#include "token.h"

namespace ptgc {

// What one sequence brings to a round: committed text in a row, and drafts hanging off its end.
struct RowInput {
  std::span<const TokenId> tokens;  // Text whose states are not in the cache yet.
  std::span<const TokenId> drafts;  // Draft tokens after it.
  const TreeSpec* tree = nullptr;   // Shape of the drafts; its root is the last of `tokens`.
  int write_index = 0;              // Slot of the first token: what is committed.

  int count() const { return static_cast<int>(tokens.size() + drafts.size()); }
};

// What a round is to give.
struct Wanted {
  int num_logits = 1;   // Rows of logits: 1 or the plan's LogitsFor(width).
  bool logits = false;  // Whether the logits themselves are read, or only their argmax.
};

// Runs its engine at any shape point of the plan; binds each point once.
class CausalModel {
 public:
  // `fixed_inputs` are ports that the caller fills, the same at every point.
  CausalModel(std::unique_ptr<Engine> engine, const Role& role, const ShapePlan& shapes,
              std::int64_t vocab_size, std::vector<Tensor> fixed_inputs = {});

  // One engine run. `rows` has one entry per sequence of the batch (an idle one has no tokens);
  // `width` is one of the plan's. Grows the cache where the round needs it.
  void Forward(std::span<const RowInput> rows, int width, Wanted wanted);

  // Argmax after the last of the row's `tokens` and after each draft: [num_logits]. With one
  // logits row it is the last token's alone.
  std::span<const TokenId> NextIds(int row) const;
  // Logits of one of those rows, where the last Forward wanted them: [vocab_size].
  LogitsRow Logits(int row, int index) const;

  KVCache& kv_cache() { return kv_cache_; }
  std::int64_t vocab_size() const { return vocab_size_; }
  // Time inside the engine during the last Forward.
  double engine_seconds() const { return engine_seconds_; }
  // Seconds of each of `repeats` runs with `num_tokens` in every row behind `past_length`, or what
  // the longest text leaves of that.
  std::vector<double> Measure(int num_tokens, int num_logits, int past_length, int repeats);

 private:
  Call& BoundCall(int width, Wanted wanted);
  void FillRow(std::size_t row, const RowInput& input);
  void FillTreeMask(std::size_t row, const RowInput& input);

  std::unique_ptr<Engine> engine_;            // Runs the graph.
  ShapePlan shapes_;                          // The shapes that may occur.
  std::int64_t vocab_size_;                   // Entries of the logits.
  DType logits_dtype_;                        // Their type; half engines give halves.
  KVCache kv_cache_;                          // States of all sequences.
  std::vector<Tensor> fixed_inputs_;          // Ports that somebody else fills.
  bool has_tree_mask_;                        // Whether the graph takes a tree mask.
  Buffer input_ids_;                          // [batch, num_tokens]
  Buffer position_ids_;                       // [batch, num_tokens]
  Buffer tree_mask_;                          // [batch, num_tokens, num_tokens]
  Buffer write_index_;                        // [batch]
  Buffer row_count_;                          // [batch]
  Buffer logits_rows_;                        // [batch, num_logits]
  Buffer next_ids_;                           // [batch, num_logits]
  Buffer logits_;                             // [batch, num_logits, vocab_size]
  std::vector<std::unique_ptr<Call>> calls_;  // [capacity, width, many logits rows, logits read]
  int width_ = 1;                             // Rows of the last Forward.
  int num_logits_ = 1;                        // Logits rows of the last Forward.
  double engine_seconds_ = 0;                 // Time inside the last Forward's engine call.
};

}  // namespace ptgc
