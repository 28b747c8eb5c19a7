#include "kernels/block_kernel.h"
#include "kernels/instruction_sets.h"
#include "kernels/x86_256.h"

namespace ptgc {
namespace {

struct AvxVnni : Vectors256 {
  static constexpr int kOffset8 = 128;

  static Ints Dot8(Ints sum, Bytes bytes, const std::int8_t* row) {
    return _mm256_dpbusd_avx_epi32(sum, bytes, Four(row));
  }
  static Ints Dot4(Ints sum, Bytes bytes, const std::int8_t* row) { return Dot8(sum, bytes, row); }
};

}  // namespace

const BlockKernels kAvxVnniKernels = {"avx-vnni",
                                      [] {
                                        return __builtin_cpu_supports("avxvnni") &&
                                               __builtin_cpu_supports("avx2") &&
                                               __builtin_cpu_supports("fma") &&
                                               __builtin_cpu_supports("f16c");
                                      },
                                      &Normalize,
                                      &Largest,
                                      &Quantize<AvxVnni>,
                                      &Multiply<AvxVnni>,
                                      &Gate};

}  // namespace ptgc
