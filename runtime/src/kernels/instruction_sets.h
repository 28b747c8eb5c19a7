// The instruction sets that kernels are compiled for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <span>
#include <string_view>

#include "kernels/block_product.h"
#include "kernels/cached_attention.h"

namespace ptgc {

#if defined(__x86_64__)
extern const BlockKernels kAvx512VnniKernels, kAvxVnniKernels, kAvx2Kernels;
extern const AttentionKernel kAvx512Attention, kAvx2Attention;
#elif defined(__aarch64__)
extern const BlockKernels kNeonI8mmKernels, kNeonDotKernels;
extern const AttentionKernel kNeonAttention;
#endif
extern const BlockKernels kPortableKernels;
extern const AttentionKernel kPortableAttention;

// The faster an instruction set, the lower; what is none of them comes last.
inline std::ptrdiff_t Rank(std::string_view name) {
  constexpr std::string_view kNames[] = {"avx512-vnni", "avx-vnni",     "avx2",
                                         "neon-i8mm",   "neon-dotprod", "portable"};
  return std::ranges::find(kNames, name) - std::begin(kNames);
}

// The first kernel that this machine runs; of those that are no faster than what $PTGC_KERNELS
// names, for tests. The last one runs anywhere.
template <typename Kernel>
const Kernel& ChooseKernel(std::span<const Kernel* const> all) {
  const char* given = std::getenv("PTGC_KERNELS");
  const std::ptrdiff_t least = given == nullptr ? 0 : Rank(given);
  for (const Kernel* one : all) {
    if (Rank(one->name) >= least && one->is_supported()) return *one;
  }
  return *all.back();
}

}  // namespace ptgc
