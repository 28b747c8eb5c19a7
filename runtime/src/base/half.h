// 16-bit floating-point numbers.
#pragma once

#include <bit>
#include <cstdint>

namespace ptgc {

// IEEE 754 binary16 as binary32, by integer operations only. A subnormal is an integer multiple of
// 2^-24, which float32 holds exactly.
inline float Float32FromFloat16(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16;
  const std::uint32_t magnitude = half & 0x7FFFU;
  if (magnitude < 0x0400U) {
    const float value = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
  }
  const std::uint32_t rebias = magnitude >= 0x7C00U ? (255U - 31U) << 23 : (127U - 15U) << 23;
  return std::bit_cast<float>(((magnitude << 13) + rebias) | sign);
}

// The nearest binary16, ties to even; what is too large becomes the largest.
inline std::uint16_t Float16FromFloat32(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint16_t sign = static_cast<std::uint16_t>((bits & 0x80000000U) >> 16);
  std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U);
  if (magnitude > 0x477FE000U) return static_cast<std::uint16_t>(sign | 0x7BFFU);
  if (magnitude < 0x38800000U) {  // Adding 0.5 leaves multiples of 2^-24.
    const float sum = std::bit_cast<float>(magnitude) + 0.5F;
    magnitude = std::bit_cast<std::uint32_t>(sum) - std::bit_cast<std::uint32_t>(0.5F);
    return static_cast<std::uint16_t>(sign | magnitude);
  }
  magnitude += 0x0FFFU + ((magnitude >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000U) >> 13));
}

inline float Float32FromBFloat16(std::uint16_t brain) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(brain) << 16);
}

}  // namespace ptgc
