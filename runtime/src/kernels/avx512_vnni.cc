#include <immintrin.h>

#include "kernels/attention_loops.h"
#include "kernels/block_kernel.h"
#include "kernels/instruction_sets.h"
#include "kernels/x86_256.h"

namespace ptgc {
namespace {

struct Avx512Vnni {
  static constexpr int kParts = 1;
  static constexpr int kMostRows = 8;
  static constexpr int kOffset8 = 128;
  using Bytes = __m512i;
  using Ints = __m512i;
  using Floats = __m512;

  static Bytes Load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
  static Bytes Low(Bytes bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
  static Bytes High(Bytes bytes) { return Low(_mm512_srli_epi16(bytes, 4)); }
  static Ints Dot8(Ints sum, Bytes bytes, const std::int8_t* row) {
    std::int32_t four;
    std::memcpy(&four, row, sizeof(four));
    return _mm512_dpbusd_epi32(sum, bytes, _mm512_set1_epi32(four));
  }
  static Ints Dot4(Ints sum, Bytes bytes, const std::int8_t* row) { return Dot8(sum, bytes, row); }
  static Ints Set(std::int32_t value) { return _mm512_set1_epi32(value); }
  static Ints AddInts(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Floats LoadFloats(const float* from) { return _mm512_loadu_ps(from); }
  static Floats LoadHalves(const std::uint16_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Floats Zero() { return _mm512_setzero_ps(); }
  static void Store(float* to, Floats values) { _mm512_storeu_ps(to, values); }
  static Floats AddScaled(Floats out, Ints sum, Floats scale, float row_scale) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scale, _mm512_set1_ps(row_scale)),
                           out);
  }
};

struct Avx512 {
  using Floats16 = __m512;

  static Floats16 Load(const float* from) { return _mm512_loadu_ps(from); }
  static Floats16 Load(const std::uint16_t* from) { return Avx512Vnni::LoadHalves(from); }
  static void StoreHalves(std::uint16_t* to, Floats16 values) {
    const __m512 limit = _mm512_set1_ps(65504);  // Of two operands, NaN gives the second.
    values = _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), limit), _mm512_min_ps(limit, values));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
  }
  static void Store(float* to, Floats16 values) { _mm512_storeu_ps(to, values); }
  static Floats16 Zero() { return _mm512_setzero_ps(); }
  static Floats16 Set(float value) { return _mm512_set1_ps(value); }
  static Floats16 Add(Floats16 a, Floats16 b) { return _mm512_add_ps(a, b); }
  static Floats16 MultiplyAdd(Floats16 a, Floats16 b, Floats16 c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  static Floats16 Multiply(Floats16 a, Floats16 b) { return _mm512_mul_ps(a, b); }
  // Of 2, 4, 8 and 16 vectors at a time, the halves that are left of each.
  static Floats16 Sums(const Floats16* from) {
    Floats16 eighths[2], quarters[4];
    for (int i = 0; i < 4; ++i) {
      const Floats16 a = Halves(from[i], from[4 + i]), b = Halves(from[8 + i], from[12 + i]);
      quarters[i] =
          _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
    }
    for (int i = 0; i < 2; ++i) {
      const Floats16 a = quarters[2 * i], b = quarters[2 * i + 1];
      eighths[i] = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
    }
    return _mm512_add_ps(_mm512_shuffle_ps(eighths[0], eighths[1], 0x88),
                         _mm512_shuffle_ps(eighths[0], eighths[1], 0xDD));
  }
  static Floats16 Halves(Floats16 a, Floats16 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  }
  static float Sum(Floats16 values) {
    const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(values), 1));
    return SumOf8(_mm256_add_ps(_mm512_castps512_ps256(values), high));
  }
};

bool IsSupported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const BlockKernels kAvx512VnniKernels = {
    "avx512-vnni",         &IsSupported,          &Normalize, &Largest,
    &Quantize<Avx512Vnni>, &Multiply<Avx512Vnni>, &Gate};
const AttentionKernel kAvx512Attention = {"avx512-vnni", &IsSupported, &Attend<Avx512>,
                                          &Narrow<Avx512>};

}  // namespace ptgc
