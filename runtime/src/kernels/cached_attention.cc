#include "kernels/cached_attention.h"

#include "kernels/instruction_sets.h"

namespace ptgc {
namespace {

constexpr const AttentionKernel* kAll[] = {
#if defined(__x86_64__)
    &kAvx512Attention,
    &kAvx2Attention,
#elif defined(__aarch64__)
    &kNeonAttention,
#endif
    &kPortableAttention,
};

}  // namespace

std::span<const AttentionKernel* const> AllAttentionKernels() { return kAll; }

const AttentionKernel& ChosenAttentionKernel() {
  static const AttentionKernel& chosen = ChooseKernel<AttentionKernel>(kAll);
  return chosen;
}

}  // namespace ptgc
