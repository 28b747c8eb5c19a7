// Vectors of 32 bytes for block_kernel.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace ptgc {
namespace {

// The sum of eight floats in halves.
inline float SumOf8(__m256 values) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

struct Vectors256 {
  static constexpr int kParts = 2;
  static constexpr int kMostRows = 4;
  using Bytes = __m256i;
  using Ints = __m256i;
  using Floats = __m256;

  static Bytes Load(const std::uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static Bytes Low(Bytes bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
  static Bytes High(Bytes bytes) { return Low(_mm256_srli_epi16(bytes, 4)); }
  static Ints Set(std::int32_t value) { return _mm256_set1_epi32(value); }
  static Ints AddInts(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static Ints Four(const std::int8_t* from) {
    std::int32_t four;
    std::memcpy(&four, from, sizeof(four));
    return _mm256_set1_epi32(four);
  }
  static Floats LoadFloats(const float* from) { return _mm256_loadu_ps(from); }
  static Floats LoadHalves(const std::uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Floats Zero() { return _mm256_setzero_ps(); }
  static void Store(float* to, Floats values) { _mm256_storeu_ps(to, values); }
  static Floats AddScaled(Floats out, Ints sum, Floats scale, float row_scale) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, _mm256_set1_ps(row_scale)),
                           out);
  }
};

}  // namespace
}  // namespace ptgc
