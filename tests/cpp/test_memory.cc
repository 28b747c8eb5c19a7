#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "base/memory.h"

namespace ptgc {
namespace {

TEST(Memory, HostMemoryIsZeroAndWholePages) {
  const Block block(HostMemory(), 10'000);
  EXPECT_EQ(block.size(), 10'000U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.data()) % 4096, 0U);
  for (std::size_t i = 0; i < block.size(); ++i) EXPECT_EQ(*block.At(i), 0);
}

TEST(Memory, DiscardedMemoryIsZeroAgain) {
  Block block(HostMemory(), 5000);
  std::memset(block.data(), 7, block.size());
  block.Discard();
  EXPECT_EQ(*block.At(4999), 0);
}

TEST(Memory, PiecesMayOverlapTheirNewPlaces) {
  const Block block(HostMemory(), 16);
  std::memcpy(block.data(), "abcdefgh01234567", 16);
  HostMemory()->Copy({block.At(0), 8, block.At(2), 8, 5, 2});
  EXPECT_EQ(std::string(block.At(0), 16), "cdefgfgh23456567");
}

TEST(Memory, BlockThatMovedAwayOwnsNothing) {
  Block block(HostMemory(), 8);
  void* data = block.data();
  Block other = std::move(block);
  EXPECT_EQ(other.data(), data);
  block = Block(HostMemory(), 4);
  EXPECT_NE(block.data(), data);
  EXPECT_EQ(block.size(), 4U);
  EXPECT_EQ(Block(HostMemory(), 0).data(), nullptr);
}

}  // namespace
}  // namespace ptgc
