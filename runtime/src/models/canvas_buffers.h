// CanvasBuffers: the texts of all rows, as inputs or outputs of a round of a canvas or edit loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/error.h"
#include "base/token.h"
#include "engines/engine.h"

namespace ptgc {

// Has room for the longest canvas of a plan, and is used at any of its lengths.
class CanvasBuffers {
 public:
  CanvasBuffers(int batch, int longest)
      : batch_(batch),
        ids_(Offset(batch, longest) * sizeof(TokenId)),
        mask_(Offset(batch, longest)),
        lengths_(static_cast<std::size_t>(batch) * sizeof(std::int64_t)) {}

  // Writes one row at a canvas length, padded with `fill` behind the text.
  void Write(int row, int canvas_length, std::span<const TokenId> text, TokenId fill) {
    TokenId* written = ids(row, canvas_length);
    std::copy(text.begin(), text.end(), written);
    std::fill(written + text.size(), written + canvas_length, fill);
    lengths_.As<std::int64_t>()[row] = static_cast<std::int64_t>(text.size());
  }
  // The text that an engine wrote for a row; throws if its length is out of range.
  std::span<const TokenId> Read(int row, int canvas_length, int shortest) const {
    if (length(row) < shortest || length(row) > canvas_length) {
      throw Error(ErrorCode::kBackend,
                  "An engine wrote a text of " + std::to_string(length(row)) +
                      " tokens; its canvas has room for " + std::to_string(shortest) + " to " +
                      std::to_string(canvas_length) + ".",
                  "Check the bundle: ptgc check BUNDLE.");
    }
    return {ids(row, canvas_length), static_cast<std::size_t>(length(row))};
  }
  // All positions of a row.
  TokenId* ids(int row, int canvas_length) const {
    return ids_.As<TokenId>() + Offset(row, canvas_length);
  }
  std::int64_t length(int row) const { return lengths_.As<std::int64_t>()[row]; }
  // One flag per position of a row.
  bool* mask(int row, int canvas_length) const {
    return mask_.As<bool>() + Offset(row, canvas_length);
  }

  Tensor Ids(const char* name, int canvas_length) const {
    return PortOf(ids_, name, DType::kInt64, {batch_, canvas_length});
  }
  Tensor Mask(const char* name, int canvas_length) const {
    return PortOf(mask_, name, DType::kBool, {batch_, canvas_length});
  }
  Tensor Lengths(const char* name) const { return PortOf(lengths_, name, DType::kInt64, {batch_}); }

 private:
  static std::size_t Offset(int row, int canvas_length) {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(canvas_length);
  }

  std::int64_t batch_;  // Sequences.
  Buffer ids_;          // [batch, canvas_length]
  Buffer mask_;         // [batch, canvas_length]
  Buffer lengths_;      // [batch]
};

}  // namespace ptgc
