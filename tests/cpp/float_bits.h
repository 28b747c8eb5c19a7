// The exact bits of floats, which kernels and machines are compared by.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace ptgc {

inline bool SameBits(std::span<const float> a, std::span<const float> b) {
  const auto same = [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  };
  return std::ranges::equal(a, b, same);
}

// A number that stands for the bits of all values.
inline std::uint64_t Fingerprint(std::span<const float> values) {
  std::uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
  for (const float value : values)
    hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001B3;
  return hash;
}

// Numbers in [-0.5, 0.5), the same with every standard library.
inline std::vector<float> FixedNumbers(std::size_t count, std::uint32_t seed) {
  std::mt19937 chance(seed);
  std::vector<float> numbers(count);
  for (float& one : numbers) one = static_cast<float>(chance() >> 8) * 0x1p-24F - 0.5F;
  return numbers;
}

}  // namespace ptgc
