#include "kernels/block_product.h"

#include "kernels/instruction_sets.h"

namespace ptgc {
namespace {

constexpr const BlockKernels* kAll[] = {
#if defined(__x86_64__)
    &kAvx512VnniKernels,
    &kAvxVnniKernels,
    &kAvx2Kernels,
#elif defined(__aarch64__)
    &kNeonI8mmKernels,
    &kNeonDotKernels,
#endif
    &kPortableKernels,
};

}  // namespace

std::span<const BlockKernels* const> AllBlockKernels() { return kAll; }

const BlockKernels& ChosenBlockKernels() {
  static const BlockKernels& chosen = ChooseKernel<BlockKernels>(kAll);
  return chosen;
}

std::size_t QuantizedBytes(const BlockWeights& weights, int count) {
  const auto blocks = static_cast<std::size_t>(weights.blocks());
  const std::size_t row =
      blocks * (sizeof(float) + sizeof(std::int32_t)) + static_cast<std::size_t>(weights.inputs);
  return static_cast<std::size_t>(count) * row;
}

QuantizedRows QuantizedAt(void* memory, const BlockWeights& weights, int count) {
  const auto blocks = static_cast<std::size_t>(count) * static_cast<std::size_t>(weights.blocks());
  QuantizedRows rows;
  rows.count = count;
  rows.scales = static_cast<float*>(memory);
  rows.starts = reinterpret_cast<std::int32_t*>(rows.scales + blocks);
  rows.values = reinterpret_cast<std::int8_t*>(rows.starts + blocks);
  return rows;
}

void ReadOutput(const BlockWeights& w, int output, float* out) {
  const int tile = output / BlockWeights::kTile, lane = output % BlockWeights::kTile;
  const int inputs_of_line = 32 / w.bits;
  const std::uint8_t* line = w.values + static_cast<std::size_t>(tile) * w.tile_bytes() + 4 * lane;
  const std::size_t first = static_cast<std::size_t>(tile * w.blocks()) * BlockWeights::kTile +
                            static_cast<std::size_t>(lane);
  for (int i = 0; i < w.inputs; i += inputs_of_line, line += BlockWeights::kLine) {
    const float scale =
        w.Scale(first + static_cast<std::size_t>(i / w.block_size) * BlockWeights::kTile);
    for (int k = 0; k < 4; ++k) {
      if (w.bits == 8) {
        out[i + k] = static_cast<float>(line[k] - 128) * scale;
      } else {
        out[i + k] = static_cast<float>((line[k] & 15) - 8) * scale;
        out[i + 4 + k] = static_cast<float>((line[k] >> 4) - 8) * scale;
      }
    }
  }
}

}  // namespace ptgc
