// SHA-256 (FIPS 180-4), which verifies the files of bundles.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ptgc {

using Sha256State = std::array<std::uint32_t, 8>;

// Adds `count` blocks of 64 bytes to a state.
using Sha256Compress = void (*)(Sha256State& state, const unsigned char* blocks, std::size_t count);
void CompressPortably(Sha256State& state, const unsigned char* blocks, std::size_t count);
// Uses this processor's SHA instructions if it has them, which is about five times as fast.
Sha256Compress FastestCompress();

// Computes a digest step by step.
class Sha256 {
 public:
  explicit Sha256(Sha256Compress compress = FastestCompress()) : compress_(compress) {}

  void Update(std::span<const unsigned char> bytes);
  // The lower-case hexadecimal digest; nothing may be added afterwards.
  std::string Finish();

 private:
  static constexpr std::size_t kBlock = 64;

  Sha256Compress compress_;  // Adds blocks to the state.
  Sha256State state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, kBlock> partial_{};  // Bytes that do not fill a block yet.
  std::size_t partial_size_ = 0;                 // How many.
  std::uint64_t size_ = 0;                       // Bytes so far.
};

// The digest of some bytes.
std::string Sha256Of(std::string_view bytes);

}  // namespace ptgc
