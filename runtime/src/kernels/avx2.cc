#include "kernels/attention_loops.h"
#include "kernels/block_kernel.h"
#include "kernels/instruction_sets.h"
#include "kernels/x86_256.h"

namespace ptgc {
namespace {

// Bytes are multiplied in pairs, unsigned by signed, whose sums have 16 bits. Those of int4 weights
// always fit; int8 weights give their sign to the row's bytes, so that a pair is at most 2 * 128 *
// 127.
struct Avx2 : Vectors256 {
  static constexpr int kOffset8 = 0;

  static Ints Dot8(Ints sum, Bytes bytes, const std::int8_t* row) {
    const __m256i weights = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
    const __m256i signed_row = _mm256_sign_epi8(Four(row), weights);
    return Add(sum, _mm256_maddubs_epi16(_mm256_abs_epi8(weights), signed_row));
  }
  static Ints Dot4(Ints sum, Bytes bytes, const std::int8_t* row) {
    return Add(sum, _mm256_maddubs_epi16(bytes, Four(row)));
  }
  static Ints Add(Ints sum, __m256i pairs) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

struct Floats256 {
  struct Floats16 {
    __m256 low, high;
  };

  static Floats16 Load(const float* from) {
    return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
  }
  static void Store(float* to, Floats16 values) {
    _mm256_storeu_ps(to, values.low);
    _mm256_storeu_ps(to + 8, values.high);
  }
  static Floats16 Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Floats16 Set(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Floats16 Add(Floats16 a, Floats16 b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static Floats16 MultiplyAdd(Floats16 a, Floats16 b, Floats16 c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static float Sum(Floats16 values) { return SumOf8(_mm256_add_ps(values.low, values.high)); }
};

bool IsSupported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

}  // namespace

const BlockKernels kAvx2Kernels = {"avx2", &IsSupported, &Quantize<Avx2>, &Multiply<Avx2>};
const AttentionKernel kAvx2Attention = {"avx2", &IsSupported, &Attend<Floats256>};

}  // namespace ptgc
