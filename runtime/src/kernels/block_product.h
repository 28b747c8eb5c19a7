// Products of a few rows with weights that are rounded in blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/half.h"

namespace ptgc {

// A matrix [outputs, inputs] of int8 or int4 weights, with one scale for every `block_size` inputs
// of an output: weight = (stored - offset) * scale, where offset is 128 or 8.
//
// Stored in tiles of 16 outputs, the last of which may be padded. A line of 64 bytes holds 4 inputs
// of each output of a tile, or 8 in int4: the first four in the low halves of the bytes.
//
//   bytes of a line   0 .. 3                    4 .. 7               ... 60 .. 63
//   int8              output 0, inputs i..i+3   output 1             ... output 15
//   int4              inputs i..i+3 low, i+4..i+7 high
//
// So one line feeds any number of rows, and the same file serves vectors of 16, 32 or 64 bytes.
struct BlockWeights {
  static constexpr int kTile = 16;  // Outputs of a tile.
  static constexpr int kLine = 64;  // Bytes of a line.

  int outputs = 0;
  int inputs = 0;                        // A multiple of block_size.
  int block_size = 0;                    // A multiple of 16.
  int bits = 0;                          // 4 or 8.
  const std::uint8_t* values = nullptr;  // [tiles, inputs * bits / 32, kLine]
  const void* scales = nullptr;          // [tiles, blocks, kTile], float16 or float32.
  bool has_half_scales = false;          // Whether they are float16.
  const float* bias = nullptr;           // [outputs]; null for none.

  int tiles() const { return (outputs + kTile - 1) / kTile; }
  int blocks() const { return inputs / block_size; }
  float Scale(std::size_t index) const {
    return has_half_scales ? Float32FromFloat16(static_cast<const std::uint16_t*>(scales)[index])
                           : static_cast<const float*>(scales)[index];
  }
  std::size_t tile_bytes() const {
    return static_cast<std::size_t>(inputs) * static_cast<std::size_t>(bits) * kTile / 8;
  }
};

// Rows rounded to int8, with a scale for each block of each row: no row depends on another.
struct QuantizedRows {
  int count = 0;
  std::int8_t* values = nullptr;  // [count, inputs]
  float* scales = nullptr;  // [count, blocks]; NaN where a block has values that are not finite.
  std::int32_t* starts = nullptr;  // [count, blocks], what the sum of a block starts from, so that
                                   // the offset of the weights is taken out again.
};

// Bytes of the arrays of so many quantised rows.
std::size_t QuantizedBytes(const BlockWeights& weights, int count);
// The arrays, one behind the other from an address with the alignment of float on.
QuantizedRows QuantizedAt(void* memory, const BlockWeights& weights, int count);

// Rows that are added to others, and normalised by their root mean square (Zhang and Sennrich,
// arXiv 1910.07467).
struct RowsToNormalize {
  int count = 0;
  int size = 0;                    // Of a row; a multiple of 16.
  const float* rows = nullptr;     // [count, size]
  const float* added = nullptr;    // [count, size]; null for nothing.
  const float* weights = nullptr;  // [size]
  float epsilon = 0;               // Added to the mean square.
  float* sums = nullptr;           // [count, size], rows + added; null if there is nothing to add.
  float* out = nullptr;            // [count, size]
};

// An instruction set's implementation. All give the same bits: sums within a block are exact
// integers, and the products with scales are added in the order of the blocks, rounded once each.
struct BlockKernels {
  std::string_view name;
  bool (*is_supported)();
  void (*normalize)(const RowsToNormalize& task);
  // Where the largest of `size` values is, of equal ones the first; 0 if all are NaN.
  int (*largest)(const float* values, int size);
  // Rounds `rows.count` rows of weights.inputs values: to the nearest, ties to even.
  void (*quantize)(const float* values, const BlockWeights& weights, const QuantizedRows& rows);
  // Writes the outputs of tiles first .. last - 1 of every row; `out` is [rows, outputs].
  void (*multiply)(const BlockWeights& weights, const QuantizedRows& rows, int first, int last,
                   float* out);
  // Tiles 2i are gates, tiles 2i + 1 what they gate: writes silu(gate) * gated to `out`, [rows,
  // outputs / 2], for tiles first .. last - 1 (both even) of products `from`, [rows, outputs].
  void (*gate)(const float* from, int rows, int outputs, int first, int last, float* out);
};

// All that are compiled in, the fastest first; the last one runs anywhere.
std::span<const BlockKernels* const> AllBlockKernels();
// The fastest that this machine runs; or the one that $PTGC_KERNELS names, for tests.
const BlockKernels& ChosenBlockKernels();

// Writes the weights of one output, [inputs].
void ReadOutput(const BlockWeights& weights, int output, float* out);

}  // namespace ptgc
