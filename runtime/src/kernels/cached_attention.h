// Attention of a few rows over a cache of keys and values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ptgc {

// The slots of a cache that a row sees, in the order of their positions: a range of committed text,
// and slots after it, which are the row's ancestors in a tree and the row itself.
//
//   cache     | begin ........ end |  .  x  .  x  .  |
struct SeenSlots {
  int begin = 0;
  int end = 0;
  std::span<const std::int32_t> others = {};

  int count() const { return end - begin + static_cast<int>(others.size()); }
};

// Slots that are read for all queries before the next ones: their keys stay in the nearest cache.
constexpr int kSlotsAtOnce = 32;
constexpr int kMostQueries = 16;  // Of a task.

// Queries that read the same keys and values: those of some rows and of the heads of a group.
struct AttentionTask {
  int head_dim = 0;
  float scale = 1;    // Of the scores.
  float softcap = 0;  // Scores s become softcap * tanh(s / softcap); 0 leaves them.
  int count = 0;      // Queries, at most kMostQueries.
  const float* const* queries = nullptr;   // [count], each [head_dim]
  float* const* out = nullptr;             // [count], each [head_dim]
  const SeenSlots* const* seen = nullptr;  // [count], of their rows; no row sees nothing.
  const void* keys = nullptr;              // [slots, head_dim]
  const void* values = nullptr;            // [slots, head_dim]
  bool is_half = false;      // Whether keys and values are float16, otherwise float32.
  float* scores = nullptr;   // Scratch: [count, the most slots that a row sees].
  float* widened = nullptr;  // Scratch: [kSlotsAtOnce, head_dim].
  std::size_t most_seen = 0;
};

// An instruction set's implementation. A query's result depends on what it sees in order, and on
// nothing else: not on slots, on other queries, or on the instruction set. Sums over head_dim have
// 16 lanes, that are added in one order; so have the sums of a softmax over what is seen; values
// are added in order.
struct AttentionKernel {
  std::string_view name;
  bool (*is_supported)();
  void (*attend)(const AttentionTask& task);
  // Rounds to float16: to the nearest, ties to even, and what is too large to the largest.
  void (*narrow)(const float* from, int count, std::uint16_t* to);
};

std::span<const AttentionKernel* const> AllAttentionKernels();
const AttentionKernel& ChosenAttentionKernel();

}  // namespace ptgc
