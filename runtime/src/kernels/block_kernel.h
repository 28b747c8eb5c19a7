// The kernels of BlockKernels over one instruction set's vectors. Each instruction set includes
// this in a source file of its own, which is compiled for it; everything here is local to that
// file.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/exponential.h"
#include "kernels/block_product.h"

namespace ptgc {
namespace {

// What is requested from memory while a tile is read.
struct Ahead {
  const std::uint8_t* from;
  int step;  // Bytes between two requests, of which there is one for each line of the tile.
};

// A tile that is read several times is in the nearest cache from the second time on, and memory
// would have nothing to do; so each of the `readings` requests its share of the next tile. One that
// is read once requests what comes a little later.
inline Ahead AheadOf(const BlockWeights& w, int tile, int reading, int readings) {
  constexpr int kLater = 2048;
  const std::uint8_t* begin = w.values + static_cast<std::size_t>(tile) * w.tile_bytes();
  if (readings == 1) return {begin + kLater, BlockWeights::kLine};
  const std::size_t share = w.tile_bytes() / static_cast<std::size_t>(readings);
  return {begin + w.tile_bytes() + static_cast<std::size_t>(reading) * share,
          std::max(BlockWeights::kLine / readings, 1)};
}

// The scales of a vector's outputs.
template <class V>
typename V::Floats ScalesAt(const BlockWeights& w, std::size_t index) {
  return w.has_half_scales ? V::LoadHalves(static_cast<const std::uint16_t*>(w.scales) + index)
                           : V::LoadFloats(static_cast<const float*>(w.scales) + index);
}

// Writes a part of a tile, of some rows, with the bias; the last tile may be padded.
template <class V, int kRows>
void StoreOutputs(const BlockWeights& w, const typename V::Floats* total, int row, int tile,
                  int part, float* out) {
  constexpr int kOutputs = BlockWeights::kTile / V::kParts;
  const int output = tile * BlockWeights::kTile + part * kOutputs;
  const int count = std::min(kOutputs, w.outputs - output);
  const bool is_plain = count == kOutputs && w.bias == nullptr;
  for (int r = 0; r < kRows && count > 0; ++r) {
    float* to =
        out + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(w.outputs) + output;
    if (is_plain) {
      V::Store(to, total[r]);
      continue;
    }
    float values[kOutputs];
    V::Store(values, total[r]);
    for (int o = 0; o < count; ++o) {
      to[o] = w.bias == nullptr ? values[o] : values[o] + w.bias[output + o];
    }
  }
}

// Vectors `V` hold 16 / kParts outputs:
//
//   kParts          vectors of a line
//   kMostRows       rows whose sums fit the registers
//   kOffset8        what int8 weights have when Dot8 reads them: 128 or 0
//   Bytes, Ints, Floats
//   Load, Low, High bytes of a line; their low and high halves
//   Dot8, Dot4      sum of ints + products of each 4 bytes with the same 4 bytes of a row
//   Set, AddInts, LoadFloats, LoadHalves, Zero, Store
//   AddScaled       out + float(sum) * (scale * row_scale); the product of scales is rounded, then
//                   the result
template <class V, int kRows, int kBits>
void MultiplyTile(const BlockWeights& w, const QuantizedRows& rows, int row, int tile, int reading,
                  int readings, float* out) {
  constexpr int kOutputs = BlockWeights::kTile / V::kParts;
  constexpr int kInputs = 32 / kBits;  // Of a line.
  constexpr bool kHasTwo = kBits == 4 && kRows <= 2;
  const std::size_t inputs = static_cast<std::size_t>(w.inputs);
  const std::size_t blocks = static_cast<std::size_t>(w.blocks());
  const std::size_t first_block = static_cast<std::size_t>(row) * blocks;
  for (int part = 0; part < V::kParts; ++part) {
    Ahead ahead = AheadOf(w, tile, reading * V::kParts + part, readings * V::kParts);
    const std::uint8_t* line = w.values + static_cast<std::size_t>(tile) * w.tile_bytes() +
                               part * (BlockWeights::kLine / V::kParts);
    const std::size_t first_scale =
        static_cast<std::size_t>(tile) * blocks * BlockWeights::kTile + part * kOutputs;
    const std::int8_t* from = rows.values + static_cast<std::size_t>(row) * inputs;
    typename V::Floats total[kRows];
    for (int r = 0; r < kRows; ++r) total[r] = V::Zero();
    for (std::size_t block = 0; block < blocks; ++block) {
      typename V::Ints sum[kRows];
      typename V::Ints sum_high[kRows];  // Of few rows, which would wait for their own sums.
      for (int r = 0; r < kRows; ++r) {
        sum[r] = V::Set(rows.starts[first_block + static_cast<std::size_t>(r) * blocks + block]);
        if constexpr (kHasTwo) sum_high[r] = V::Set(0);
      }
      for (int i = 0; i < w.block_size; i += kInputs) {
        __builtin_prefetch(ahead.from);
        ahead.from += ahead.step;
        const typename V::Bytes bytes = V::Load(line);
        if constexpr (kBits == 8) {
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            sum[r] = V::Dot8(sum[r], bytes, from + static_cast<std::size_t>(r) * inputs);
          }
        } else {
          const typename V::Bytes low = V::Low(bytes), high = V::High(bytes);
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            sum[r] = V::Dot4(sum[r], low, from + static_cast<std::size_t>(r) * inputs);
          }
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            typename V::Ints& added = kHasTwo ? sum_high[r] : sum[r];
            added = V::Dot4(added, high, from + static_cast<std::size_t>(r) * inputs + 4);
          }
        }
        line += BlockWeights::kLine;
        from += kInputs;
      }
      const std::size_t at = first_scale + block * BlockWeights::kTile;
      const typename V::Floats scale = ScalesAt<V>(w, at);
      for (int r = 0; r < kRows; ++r) {
        if constexpr (kHasTwo) sum[r] = V::AddInts(sum[r], sum_high[r]);
        const float row_scale =
            rows.scales[first_block + static_cast<std::size_t>(r) * blocks + block];
        total[r] = V::AddScaled(total[r], sum[r], scale, row_scale);
      }
    }
    StoreOutputs<V, kRows>(w, total, row, tile, part, out);
  }
}

// MultiplyTile of `count` rows, at most kRows.
template <class V, int kBits, int kRows>
void MultiplyRows(const BlockWeights& w, const QuantizedRows& rows, int row, int count, int tile,
                  int reading, int readings, float* out) {
  if (count == kRows) {
    MultiplyTile<V, kRows, kBits>(w, rows, row, tile, reading, readings, out);
  } else if constexpr (kRows > 1) {
    MultiplyRows<V, kBits, kRows - 1>(w, rows, row, count, tile, reading, readings, out);
  }
}

template <class V, int kBits>
void MultiplyTiles(const BlockWeights& w, const QuantizedRows& rows, int first, int last,
                   float* out) {
  const int readings = (rows.count + V::kMostRows - 1) / V::kMostRows;
  for (int tile = first; tile < last; ++tile) {
    for (int reading = 0, row = 0; reading < readings; ++reading) {
      const int left = readings - reading;
      const int count = (rows.count - row + left - 1) / left;  // As many each time, or one less.
      MultiplyRows<V, kBits, V::kMostRows>(w, rows, row, count, tile, reading, readings, out);
      row += count;
    }
  }
}

template <class V>
void Multiply(const BlockWeights& w, const QuantizedRows& rows, int first, int last, float* out) {
  if (w.bits == 8) {
    MultiplyTiles<V, 8>(w, rows, first, last, out);
  } else {
    MultiplyTiles<V, 4>(w, rows, first, last, out);
  }
}

// The pattern of the absolute value of a float: finite ones are below kNotFinite, in their own
// order.
inline std::uint32_t Magnitude(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits & 0x7FFFFFFFU;
}

template <class V>
void Quantize(const float* values, const BlockWeights& w, const QuantizedRows& rows) {
  constexpr std::uint32_t kNotFinite = 0x7F800000U;
  constexpr float kLeast = 1e-35F;  // Smaller blocks are zero; the quotient would overflow.
  constexpr float kToNearest = 12582912.0F;  // 1.5 * 2^23: adding it leaves no bits for fractions.
  const int offset = w.bits == 8 ? V::kOffset8 : 8;
  const std::size_t count =
      static_cast<std::size_t>(rows.count) * static_cast<std::size_t>(w.blocks());
  for (std::size_t block = 0; block < count; ++block) {
    const std::size_t at = block * static_cast<std::size_t>(w.block_size);
    const float* from = values + at;
    std::int8_t* to = rows.values + at;
    std::uint32_t magnitude = 0;
    for (int i = 0; i < w.block_size; ++i) magnitude = std::max(magnitude, Magnitude(from[i]));
    float largest;
    std::memcpy(&largest, &magnitude, sizeof(largest));
    const bool is_finite = magnitude < kNotFinite;
    const float factor = is_finite && largest >= kLeast ? 127 / largest : 0;
    std::int32_t sum = 0;
    for (int i = 0; i < w.block_size; ++i) {
      const float scaled = is_finite ? from[i] * factor : 0;
      const std::int32_t rounded = static_cast<std::int32_t>((scaled + kToNearest) - kToNearest);
      to[i] = static_cast<std::int8_t>(rounded);
      sum += rounded;
    }
    rows.scales[block] = !is_finite ? std::numeric_limits<float>::quiet_NaN() : largest / 127;
    rows.starts[block] = -offset * sum;
  }
}

inline void Normalize(const RowsToNormalize& task) {
  constexpr int kLanes = 16;
  const auto size = static_cast<std::size_t>(task.size);
  for (int row = 0; row < task.count; ++row) {
    const std::size_t at = static_cast<std::size_t>(row) * size;
    const float* from = task.rows + at;
    if (task.added != nullptr) {
      float* sums = task.sums + at;
      for (std::size_t i = 0; i < size; ++i) sums[i] = from[i] + task.added[at + i];
      from = sums;
    }
    float squares[kLanes] = {};
    for (std::size_t i = 0; i < size; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane)
        squares[lane] += from[i + lane] * from[i + lane];
    }
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) squares[lane] += squares[lane + half];
    }
    const float factor = 1 / std::sqrt(squares[0] / static_cast<float>(task.size) + task.epsilon);
    float* out = task.out + at;
    for (std::size_t i = 0; i < size; ++i) out[i] = from[i] * factor * task.weights[i];
  }
}

inline int Largest(const float* values, int size) {
  constexpr int kLanes = 64;
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  const int whole = size / kLanes * kLanes;
  for (int i = 0; i < whole; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
    }
  }
  float most = *std::max_element(lanes, lanes + kLanes);
  for (int i = whole; i < size; ++i) most = values[i] > most ? values[i] : most;
  const float* found = std::find(values, values + size, most);
  return found == values + size ? 0 : static_cast<int>(found - values);
}

inline void Gate(const float* from, int rows, int outputs, int first, int last, float* out) {
  constexpr int kTile = BlockWeights::kTile;
  for (int row = 0; row < rows; ++row) {
    const float* tiles = from + static_cast<std::size_t>(row) * static_cast<std::size_t>(outputs);
    float* to = out + static_cast<std::size_t>(row) * static_cast<std::size_t>(outputs / 2);
    for (int tile = first; tile < last; tile += 2) {
      for (int o = 0; o < kTile; ++o) {
        const float gate = tiles[tile * kTile + o], gated = tiles[(tile + 1) * kTile + o];
        const float e = Exp(-std::abs(gate));
        const float share = (gate < 0 ? e : 1.0F) / (1.0F + e);  // The logistic function.
        to[tile / 2 * kTile + o] = gate * share * gated;
      }
    }
  }
}

}  // namespace
}  // namespace ptgc
