// Logits as engines give them: whole rows, or the largest of a row.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "base/names.h"
#include "base/token.h"

namespace ptgc {

// One row of logits in an engine's buffer.
struct LogitsRow {
  const void* data = nullptr;     // [size]
  DType dtype = DType::kFloat32;  // kFloat32, kFloat16 or kBFloat16.
  std::int64_t size = 0;          // Entries of the vocabulary.

  // All entries as float32; `values` has `size` entries.
  void Copy(std::span<float> values) const;
};

// The largest logits of a row, descending, the lower id of equals first, and what is known of the
// others.
struct TopLogits {
  std::span<const float> values;       // [top_k]; none where the engine gives none.
  std::span<const TokenId> token_ids;  // [top_k]
  // Log of the sum of exp over the whole row, correct to kSumError; NaN where it is not known.
  double log_sum_exp = std::numeric_limits<double>::quiet_NaN();
  std::int64_t vocab_size = 0;  // Entries of the whole row.

  // Far above the rounding of a float32 sum; an engine that is worse gives no sum.
  static constexpr double kSumError = 1e-4;
};

// Where the logits after the nodes of a proposal are read; node 0 is the root.
class LogitsReader {
 public:
  virtual ~LogitsReader() = default;
  // The largest after a node; empty where the engine gives none.
  virtual TopLogits Top(int /*node*/) { return {}; }
  // All after a node. Valid until the next call.
  virtual LogitsRow Row(int node) = 0;
};

}  // namespace ptgc
