#include <gtest/gtest.h>

#include <algorithm>

#include "engines/device.h"

namespace ptgc {
namespace {

TEST(Device, FingerprintIsSafeAsFileName) {
  const std::string name = DeviceFingerprint();
  EXPECT_FALSE(name.empty());
  EXPECT_TRUE(std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  })) << name;
  EXPECT_EQ(name, DeviceFingerprint());
}

TEST(Device, PeakMemoryIsPlausible) { EXPECT_GT(PeakMemoryBytes(), 1 << 20); }

}  // namespace
}  // namespace ptgc
