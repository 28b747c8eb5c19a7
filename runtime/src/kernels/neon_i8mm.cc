#include <arm_neon.h>
#include <sys/auxv.h>

#include "kernels/block_kernel.h"
#include "kernels/instruction_sets.h"
#include "kernels/neon_vectors.h"

namespace ptgc {
namespace {

constexpr int kMostPairs = 4;  // Whose sums fit the registers.

// Eight inputs of each of four outputs, two outputs a vector.
struct Eight {
  int8x16_t first, second;
};

template <int kBits>
Eight LoadEight(const std::uint8_t* line) {
  using V = NeonVectors;
  uint8x16_t low, high;  // Inputs 0 to 3, and 4 to 7.
  if constexpr (kBits == 8) {
    low = veorq_u8(V::Load(line), vdupq_n_u8(128));
    high = veorq_u8(V::Load(line + BlockWeights::kLine), vdupq_n_u8(128));
  } else {
    low = V::Low(V::Load(line));
    high = V::High(V::Load(line));
  }
  const uint32x4_t a = vreinterpretq_u32_u8(low), b = vreinterpretq_u32_u8(high);
  return {vreinterpretq_s8_u32(vzip1q_u32(a, b)), vreinterpretq_s8_u32(vzip2q_u32(a, b))};
}

// MultiplyTile of two rows times kPairs: a matrix product of 2 x 8 by 8 x 2 in one instruction.
template <int kPairs, int kBits>
void MultiplyPairs(const BlockWeights& w, const QuantizedRows& rows, int row, int tile, int reading,
                   int readings, float* out) {
  using V = NeonVectors;
  constexpr int kLines = kBits == 8 ? 2 : 1;  // Of eight inputs.
  constexpr int kRows = 2 * kPairs;
  const std::size_t inputs = static_cast<std::size_t>(w.inputs);
  const std::size_t blocks = static_cast<std::size_t>(w.blocks());
  for (int part = 0; part < V::kParts; ++part) {
    Ahead ahead = AheadOf(w, tile, reading * V::kParts + part, readings * V::kParts);
    const std::uint8_t* line =
        w.values + static_cast<std::size_t>(tile) * w.tile_bytes() + part * 16;
    const std::int8_t* from = rows.values + static_cast<std::size_t>(row) * inputs;
    float32x4_t total[kRows];
    for (int r = 0; r < kRows; ++r) total[r] = V::Zero();
    for (std::size_t block = 0; block < blocks; ++block) {
      const std::size_t first = static_cast<std::size_t>(row) * blocks + block;
      int32x4_t sums[kPairs][2];  // Of both rows, by output.
      for (int p = 0; p < kPairs; ++p) {
        const std::size_t at = first + static_cast<std::size_t>(2 * p) * blocks;
        const int32x2_t starts[2] = {vdup_n_s32(rows.starts[at]),
                                     vdup_n_s32(rows.starts[at + blocks])};
        sums[p][0] = sums[p][1] = vcombine_s32(starts[0], starts[1]);
      }
      for (int i = 0; i < w.block_size; i += 8, from += 8, line += kLines * BlockWeights::kLine) {
        for (int l = 0; l < kLines; ++l, ahead.from += ahead.step) __builtin_prefetch(ahead.from);
        const Eight weights = LoadEight<kBits>(line);
        for (int p = 0; p < kPairs; ++p) {
          const std::int8_t* pair = from + static_cast<std::size_t>(2 * p) * inputs;
          const int8x16_t both = vcombine_s8(vld1_s8(pair), vld1_s8(pair + inputs));
          sums[p][0] = vmmlaq_s32(sums[p][0], both, weights.first);
          sums[p][1] = vmmlaq_s32(sums[p][1], both, weights.second);
        }
      }
      const std::size_t tiles_before = static_cast<std::size_t>(tile) * blocks + block;
      const float32x4_t scale =
          ScalesAt<V>(w, tiles_before * BlockWeights::kTile + static_cast<std::size_t>(part) * 4);
      for (int r = 0; r < kRows; ++r) {
        const int32x4_t* own = sums[r / 2];
        const int32x4_t sum = r % 2 == 0
                                  ? vcombine_s32(vget_low_s32(own[0]), vget_low_s32(own[1]))
                                  : vcombine_s32(vget_high_s32(own[0]), vget_high_s32(own[1]));
        total[r] = V::AddScaled(total[r], sum, scale,
                                rows.scales[first + static_cast<std::size_t>(r) * blocks]);
      }
    }
    StoreOutputs<V, kRows>(w, total, row, tile, part, out);
  }
}

// MultiplyPairs of `pairs` pairs, at most kPairs.
template <int kPairs, int kBits>
void MultiplyUpTo(const BlockWeights& w, const QuantizedRows& rows, int row, int pairs, int tile,
                  int reading, int readings, float* out) {
  if (pairs == kPairs) {
    MultiplyPairs<kPairs, kBits>(w, rows, row, tile, reading, readings, out);
  } else if constexpr (kPairs > 1) {
    MultiplyUpTo<kPairs - 1, kBits>(w, rows, row, pairs, tile, reading, readings, out);
  }
}

template <int kBits>
void MultiplyTilesByPairs(const BlockWeights& w, const QuantizedRows& rows, int first, int last,
                          float* out) {
  const int pairs = rows.count / 2, whole = (pairs + kMostPairs - 1) / kMostPairs;
  const int readings = whole + rows.count % 2;
  for (int tile = first; tile < last; ++tile) {
    for (int reading = 0, done = 0; reading < whole; ++reading) {
      const int left = whole - reading, count = (pairs - done + left - 1) / left;
      MultiplyUpTo<kMostPairs, kBits>(w, rows, 2 * done, count, tile, reading, readings, out);
      done += count;
    }
    if (rows.count % 2 == 1) {
      MultiplyTile<NeonVectors, 1, kBits>(w, rows, rows.count - 1, tile, whole, readings, out);
    }
  }
}

void MultiplyByPairs(const BlockWeights& w, const QuantizedRows& rows, int first, int last,
                     float* out) {
  if (w.bits == 8) {
    MultiplyTilesByPairs<8>(w, rows, first, last, out);
  } else {
    MultiplyTilesByPairs<4>(w, rows, first, last, out);
  }
}

bool IsSupported() { return (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }

}  // namespace

const BlockKernels kNeonI8mmKernels = {"neon-i8mm", &IsSupported,           &Normalize,
                                       &Largest,    &Quantize<NeonVectors>, &MultiplyByPairs,
                                       &Gate};

}  // namespace ptgc
