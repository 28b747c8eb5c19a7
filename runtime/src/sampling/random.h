// Random numbers as a pure function of seed, position and purpose.
#pragma once

#include <array>
#include <cstdint>

namespace ptgc {

// Philox4x32-10 (Salmon et al. 2011, doi 10.1145/2063384.2063405): ten rounds over `counter` under
// `key`.
constexpr std::array<std::uint32_t, 4> Philox4x32(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultipliers[2] = {0xD2511F53, 0xCD9E8D57};
  constexpr std::uint32_t kWeyl[2] = {0x9E3779B9, 0xBB67AE85};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultipliers[0] * counter[0];
    const std::uint64_t product1 = kMultipliers[1] * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key = {key[0] + kWeyl[0], key[1] + kWeyl[1]};
  }
  return counter;
}

// The purpose of a random number; every purpose has its own numbers.
enum class RandomStream : std::uint32_t {
  kChoose,    // The token of plain decoding, and a drafter's token (rule `match`).
  kAccept,    // Whether a draft is accepted (rules `speculative` and `block`).
  kResidual,  // The token that replaces rejected drafts.
  kDraft,     // A drafter's tokens (rules `speculative` and `block`).
  kCanvas,    // The token of a masked position, and its rank; `draw` is the round.
};

// The words for the token at index `position` of a text, of which there may be several for one
// purpose, numbered by `draw`. They depend on nothing else, so a text is the same at every width,
// batch and backend.
constexpr std::array<std::uint32_t, 4> PhiloxAt(std::uint64_t seed, std::int64_t position,
                                                RandomStream stream, std::uint32_t draw = 0) {
  const std::uint64_t index = static_cast<std::uint64_t>(position);
  return Philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                     static_cast<std::uint32_t>(stream), draw},
                    {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
}

// A number in [0, 1) with 53 bits, from the first two words.
constexpr double Uniform(std::uint64_t seed, std::int64_t position, RandomStream stream,
                         std::uint32_t draw = 0) {
  const std::array<std::uint32_t, 4> words = PhiloxAt(seed, position, stream, draw);
  const std::uint64_t bits = (std::uint64_t{words[0]} << 21) ^ (words[1] >> 11);
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace ptgc
