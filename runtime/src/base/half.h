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

inline float Float32FromBFloat16(std::uint16_t brain) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(brain) << 16);
}

}  // namespace ptgc
