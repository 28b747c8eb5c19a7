#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/error.h"
#include "engines/gpu/device_memory.h"
#include "generator_fixture.h"
#include "substitute_gpu.h"

namespace ptgc {
namespace {

struct Fixture {
  // A block that holds this text.
  Block Holding(const std::string& text) {
    Block block(memory, text.size());
    memory->device().CopyIn(block.data(), text.data(), text.size());
    memory->device().Synchronise();
    return block;
  }
  std::string Read(const Block& block) {
    std::string text(block.size(), '?');
    memory->device().CopyOut(text.data(), block.data(), text.size());
    memory->device().Synchronise();
    return text;
  }

  SubstituteGpu gpu;
  std::shared_ptr<DeviceMemory> memory = std::make_shared<DeviceMemory>(MakeSubstituteDevice(gpu));
};

TEST(DeviceMemory, WhatIsTakenIsZero) {
  Fixture fixture;
  Block block(fixture.memory, 1000);
  EXPECT_EQ(fixture.Read(block), std::string(1000, '\0'));
  block = fixture.Holding("text");
  block.Discard();
  EXPECT_EQ(fixture.Read(block), std::string(4, '\0'));
  EXPECT_EQ(fixture.gpu.violations, 0);
}

TEST(DeviceMemory, HostCannotTouchIt) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Fixture fixture;
        const Block block(fixture.memory, 8);
        *block.At(0) = 1;
      },
      "");
}

TEST(DeviceMemory, CopiesAreInOrderAndWaitForNobody) {
  Fixture fixture;
  const Block block = fixture.Holding("abcdefgh");
  const int waits = fixture.gpu.synchronisations;
  fixture.memory->Copy({block.At(0), 4, block.At(2), 4, 2, 2});
  fixture.memory->Copy({block.At(2), 0, block.At(0), 0, 2, 1});
  EXPECT_EQ(fixture.gpu.synchronisations, waits);
  EXPECT_EQ(fixture.Read(block), "cdcdghgh");
  EXPECT_EQ(fixture.gpu.violations, 0);
}

TEST(DeviceMemory, OverlappingPiecesTakeADetourThatIsTakenOnce) {
  Fixture fixture;
  const Block block = fixture.Holding("abcdefgh01234567");
  fixture.memory->Copy({block.At(0), 8, block.At(2), 8, 5, 2});
  EXPECT_EQ(fixture.Read(block), "cdefgfgh23456567");
  EXPECT_EQ(fixture.gpu.live_blocks, 2);
  fixture.memory->Copy({block.At(1), 8, block.At(0), 8, 5, 2});
  EXPECT_EQ(fixture.Read(block), "ccdefggh22345667");
  EXPECT_EQ(fixture.gpu.live_blocks, 2);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

TEST(DeviceMemory, SaysWhatIsFreeWhereThereIsTooLittle) {
  Fixture fixture;
  fixture.gpu.faults.allocations_left = 1;
  const Block first(fixture.memory, 10);
  try {
    const Block second(fixture.memory, 20);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCapacity);
    EXPECT_NE(error.message().find("20 bytes of the memory of Substitute GPU"), std::string::npos);
    EXPECT_NE(error.action().find("--max-length"), std::string::npos);
  }
}

TEST(DeviceMemory, KnowsItsAddresses) {
  Fixture fixture;
  const Block block(fixture.memory, 10);
  int own = 0;
  EXPECT_TRUE(fixture.memory->Holds(block.At(0)));
  EXPECT_TRUE(fixture.memory->Holds(block.At(9)));
  EXPECT_FALSE(fixture.memory->Holds(block.At(10)));
  EXPECT_FALSE(fixture.memory->Holds(&own));
  EXPECT_FALSE(fixture.memory->Holds(nullptr));
}

TEST(DeviceMemory, AllOfItIsGivenBack) {
  SubstituteGpu gpu;
  {
    auto memory = std::make_shared<DeviceMemory>(MakeSubstituteDevice(gpu));
    const Block block(memory, 16);
    memory->Copy({block.At(0), 0, block.At(2), 0, 8, 1});
    EXPECT_EQ(gpu.live_blocks, 2);
  }
  EXPECT_EQ(gpu.live_blocks, 0);
  EXPECT_EQ(gpu.violations, 0);
}

}  // namespace
}  // namespace ptgc
