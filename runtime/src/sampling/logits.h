// Logits as engines output them.
#pragma once

#include <cstdint>
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

// Reads the logits after the nodes of a proposal; node 0 is the root.
class LogitsReader {
 public:
  virtual ~LogitsReader() = default;
  // The logits after a node. Valid until the next call.
  virtual LogitsRow Row(int node) = 0;
};

}  // namespace ptgc
