#include "sampling/gumbel_noise.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "sampling/logarithm.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace ptgc {
namespace {

constexpr std::uint32_t kPrime = GumbelNoise::kPrime;

// value mod p; because 2^31 is 1 mod p, the parts above and below bit 31 may be added.
std::uint32_t Modulo(std::uint64_t value) {
  value = (value >> 31) + (value & kPrime);
  value = (value >> 31) + (value & kPrime);
  return static_cast<std::uint32_t>(value >= kPrime ? value - kPrime : value);
}

// A lower bound of log2 y, at most 0.09 below it: exponent and mantissa are read as one number.
float Log2Below(float y) {
  return static_cast<float>(std::bit_cast<std::int32_t>(y)) * 0x1p-23F - 127.001F;
}

#ifdef __SSE2__
using Four = __m128i;  // Numbers of four tokens, 32 bits each.

// Reduces numbers up to 2^32 - 3 modulo p; the results are at most p.
Four Folded(Four value) {
  return _mm_add_epi32(_mm_srli_epi32(value, 31), _mm_and_si128(value, _mm_set1_epi32(kPrime)));
}

// Adds the parts above and below bit 31 of two times two numbers of 62 bits. The order becomes
// even[0], even[1], odd[0], odd[1].
Four AddParts(Four even, Four odd) {
  const __m128 doubled_even = _mm_castsi128_ps(_mm_add_epi64(even, even));
  const __m128 doubled_odd = _mm_castsi128_ps(_mm_add_epi64(odd, odd));
  const Four low = _mm_castps_si128(_mm_shuffle_ps(doubled_even, doubled_odd, 0x88));
  const Four high = _mm_castps_si128(_mm_shuffle_ps(doubled_even, doubled_odd, 0xDD));
  return _mm_add_epi32(high, _mm_srli_epi32(low, 1));
}

// x^2 + addend of two times two numbers, at most 2 p; the addends have 64 bits each.
Four SquarePlus(Four x, Four even_addend, Four odd_addend) {
  const Four odd = _mm_srli_epi64(x, 32);
  return AddParts(_mm_add_epi64(_mm_mul_epu32(x, x), even_addend),
                  _mm_add_epi64(_mm_mul_epu32(odd, odd), odd_addend));
}
#endif

}  // namespace

GumbelNoise::GumbelNoise(std::uint64_t seed, std::int64_t position, RandomStream stream,
                         std::uint32_t draw) {
  const std::array<std::uint32_t, 4> words = PhiloxAt(seed, position, stream, draw);
  start_ = words[0] % kPrime;
  multiplier_ = 1 + words[1] % (kPrime - 1);
  second_ = words[2] % kPrime;
  third_ = words[3] % kPrime;
  multiples_[0] = 0;
  for (std::size_t i = 1; i < multiples_.size(); ++i) {
    const std::uint32_t next = multiples_[i - 1] + multiplier_;
    multiples_[i] = next >= kPrime ? next - kPrime : next;
  }
}

std::uint32_t GumbelNoise::Number(TokenId token_id) const {
  const std::uint64_t t = static_cast<std::uint64_t>(token_id);
  const std::uint64_t a = Modulo(start_ + multiplier_ * t);
  const std::uint64_t b = Modulo(a * a + second_);
  return Modulo(b * b + a + third_);
}

// If u is near 1, -ln u is 2 artanh(y / (2 - y)) with y = 1 - u, which is known exactly.
double GumbelNoise::At(TokenId token_id) const {
  const double x = Number(token_id);
  const double y = (kPrime - x - 0.5) / kPrime;
  const double exponential = y < 0.29 ? TwiceArtanh(y / (2 - y)) : -Log((x + 0.5) / kPrime);
  return -Log(exponential);
}

// g = -ln(-ln u) <= -ln(1 - u).
float GumbelNoise::BlockBound(std::int64_t block) const {
  constexpr float kLn2 = 0x1.62e43p-1F;
  const std::uint64_t first = static_cast<std::uint64_t>(block * kBlock);
  const std::uint32_t high = LargestHighBits(Modulo(start_ + multiplier_ * first));
  const std::uint32_t largest = std::min(kPrime - 1, (high + 1) << 16);
  const float y = (static_cast<float>(kPrime - largest) - 0.5F) / static_cast<float>(kPrime);
  return -kLn2 * Log2Below(y);
}

// The largest x >> 16 of a block whose first a is `start`; x may be too small by 1, because bit 31,
// which is 1 modulo p, is dropped.
#ifdef __SSE2__
std::uint32_t GumbelNoise::LargestHighBits(std::uint32_t start) const {
  const Four first = _mm_set1_epi32(static_cast<std::int32_t>(start));
  const Four third = _mm_set1_epi32(static_cast<std::int32_t>(third_));
  const Four second = _mm_set1_epi64x(second_);
  const Four low = _mm_set1_epi64x(0xFFFFFFFF);
  Four largest = _mm_setzero_si128();
  for (std::size_t i = 0; i < multiples_.size(); i += 4) {
    const Four multiples = _mm_load_si128(reinterpret_cast<const Four*>(&multiples_[i]));
    const Four a = Folded(_mm_add_epi32(first, multiples));
    const Four b = Folded(SquarePlus(a, second, second));
    const Four addend = _mm_shuffle_epi32(_mm_add_epi32(a, third), 0xD8);  // In the order of b.
    const Four x = SquarePlus(b, _mm_and_si128(addend, low), _mm_srli_epi64(addend, 32));
    // The lower halves are compared too, but ignored.
    largest = _mm_max_epi16(largest, _mm_and_si128(x, _mm_set1_epi32(kPrime)));
  }
  alignas(16) std::uint16_t halves[8];
  _mm_store_si128(reinterpret_cast<Four*>(halves), largest);
  return std::max({halves[1], halves[3], halves[5], halves[7]});
}
#else
std::uint32_t GumbelNoise::LargestHighBits(std::uint32_t start) const {
  std::uint32_t largest = 0;
  for (std::uint32_t multiple : multiples_) {
    const std::uint64_t a = Modulo(std::uint64_t{start} + multiple);
    const std::uint64_t b = Modulo(a * a + second_);
    largest = std::max(largest, Modulo(b * b + a + third_) >> 16);
  }
  return largest;
}
#endif

}  // namespace ptgc
