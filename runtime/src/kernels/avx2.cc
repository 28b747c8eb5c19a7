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
  static Floats16 Load(const std::uint16_t* from) {
    return {Avx2::LoadHalves(from), Avx2::LoadHalves(from + 8)};
  }
  static void StoreHalves(std::uint16_t* to, Floats16 values) {
    StoreHalves(to, values.low);
    StoreHalves(to + 8, values.high);
  }
  static void StoreHalves(std::uint16_t* to, __m256 values) {
    const __m256 limit = _mm256_set1_ps(65504);  // Of two operands, NaN gives the second.
    values = _mm256_max_ps(_mm256_sub_ps(_mm256_setzero_ps(), limit), _mm256_min_ps(limit, values));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
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
  static Floats16 Multiply(Floats16 a, Floats16 b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static Floats16 Sums(const Floats16* from) { return {SumsOf8(from), SumsOf8(from + 8)}; }
  // Of 2, 4 and 8 vectors at a time, the halves that are left of each.
  static __m256 SumsOf8(const Floats16* from) {
    __m256 eighths[2], quarters[4];
    for (int i = 0; i < 4; ++i) {
      const __m256 a = _mm256_add_ps(from[i].low, from[i].high);
      const __m256 b = _mm256_add_ps(from[4 + i].low, from[4 + i].high);
      quarters[i] =
          _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    }
    for (int i = 0; i < 2; ++i) {
      const __m256 a = quarters[2 * i], b = quarters[2 * i + 1];
      eighths[i] = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xEE));
    }
    return _mm256_add_ps(_mm256_shuffle_ps(eighths[0], eighths[1], 0x88),
                         _mm256_shuffle_ps(eighths[0], eighths[1], 0xDD));
  }
  static float Sum(Floats16 values) { return SumOf8(_mm256_add_ps(values.low, values.high)); }
};

bool IsSupported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

}  // namespace

const BlockKernels kAvx2Kernels = {"avx2",          &IsSupported,    &Normalize, &Largest,
                                   &Quantize<Avx2>, &Multiply<Avx2>, &Gate};
const AttentionKernel kAvx2Attention = {"avx2", &IsSupported, &Attend<Floats256>,
                                        &Narrow<Floats256>};

}  // namespace ptgc
