// The instruction sets that kernels are compiled for.
#pragma once

#include <cstdlib>
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

// The first kernel that this machine runs, but not before the one that $PTGC_KERNELS names, for
// tests. The last one runs anywhere.
template <typename Kernel>
const Kernel& ChooseKernel(std::span<const Kernel* const> all) {
  const char* given = std::getenv("PTGC_KERNELS");
  bool is_reached = given == nullptr;
  for (const Kernel* one : all) {
    is_reached = is_reached || one->name == given;
    if (is_reached && one->is_supported()) return *one;
  }
  return *all.back();
}

}  // namespace ptgc
