#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>

#include "base/error.h"
#include "engines/gpu/device_memory.h"
#include "models/kv_cache.h"
#include "substitute_gpu.h"

namespace ptgc {
namespace {

constexpr int kBatch = 2;
constexpr int kHeads = 3;
constexpr int kHeadDim = 4;

KVCache MakeCache() {
  LayerState state;
  state.kv_heads = kHeads;
  state.head_dim = kHeadDim;
  ShapePlan shapes;
  shapes.batch = kBatch;
  shapes.roles["target"] = {{1, 2, 4}, 4, {8, 16, 32}, {}, {}, {}};
  return KVCache({{"target", {state, state}}}, shapes);
}

// Element [b, h, slot, 0] of a port.
float& At(const Tensor& tensor, int b, int h, int slot) {
  const std::int64_t index = (b * tensor.shape[1] + h) * tensor.shape[2] + slot;
  return static_cast<float*>(tensor.data)[index * tensor.shape[3]];
}

std::vector<Tensor> Past(const KVCache& cache, const char* role = "target") {
  std::vector<Tensor> tensors;
  cache.AppendPast(role, tensors);
  return tensors;
}

TEST(KVCache, PastAndPresentAreOneBuffer) {
  const KVCache cache = MakeCache();
  std::vector<Tensor> present;
  cache.AppendPresent("target", present);
  const std::vector<Tensor> past = Past(cache);
  ASSERT_EQ(past.size(), 4U);
  EXPECT_EQ(past[3].name, "past_key_values.1.value");
  EXPECT_EQ(present[3].name, "present.1.value");
  EXPECT_EQ(past[3].data, present[3].data);
  EXPECT_EQ(past[3].shape, (std::vector<std::int64_t>{kBatch, kHeads, 8, kHeadDim}));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(past[3].data) % 64, 0U);
  EXPECT_EQ(At(past[3], 1, 2, 7), 0.0F);
}

TEST(KVCache, GrowingKeepsEverySequence) {
  KVCache cache = MakeCache();
  for (const Tensor& tensor : Past(cache)) {
    for (int slot = 0; slot < 5; ++slot) At(tensor, 1, 2, slot) = static_cast<float>(slot + 1);
  }
  cache.Grow(8);
  EXPECT_EQ(cache.capacity(), 8);
  cache.Grow(17);
  EXPECT_EQ(cache.capacity(), 32);
  for (const Tensor& tensor : Past(cache)) {
    EXPECT_EQ(tensor.shape[2], 32);
    for (int slot = 0; slot < 5; ++slot) EXPECT_EQ(At(tensor, 1, 2, slot), slot + 1);
    EXPECT_EQ(At(tensor, 1, 2, 5), 0.0F);
  }
}

TEST(KVCache, ClearReturnsToTheSmallestAndIsEmpty) {
  KVCache cache = MakeCache();
  At(Past(cache)[0], 0, 0, 0) = 5;
  cache.Grow(9);
  cache.Clear();
  EXPECT_EQ(cache.capacity(), 8);
  EXPECT_EQ(At(Past(cache)[0], 0, 0, 0), 0.0F);
}

TEST(KVCache, RefusesWhatThePlanDoesNotHold) {
  KVCache cache = MakeCache();
  try {
    cache.Grow(33);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCapacity);
  }
}

TEST(KVCache, AcceptedNodesAreKeptTogether) {
  KVCache cache = MakeCache();
  const Tensor keys = Past(cache)[2];
  for (int slot = 0; slot < 8; ++slot) {
    At(keys, 1, 1, slot) = static_cast<float>(slot);
    At(keys, 0, 1, slot) = static_cast<float>(slot);
  }
  cache.Keep(1, 2, std::vector<int>{2, 5});
  EXPECT_EQ(At(keys, 1, 1, 2), 2);
  EXPECT_EQ(At(keys, 1, 1, 3), 4);
  EXPECT_EQ(At(keys, 1, 1, 4), 7);
  EXPECT_EQ(At(keys, 0, 1, 3), 3);
}

TEST(KVCache, CopyingARowLeavesTheOthers) {
  KVCache cache = MakeCache();
  const Tensor keys = Past(cache)[2];
  for (int slot = 0; slot < 8; ++slot) At(keys, 0, 2, slot) = static_cast<float>(slot + 1);
  cache.CopyRow(0, 1, 5);
  EXPECT_EQ(At(keys, 1, 2, 4), 5);
  EXPECT_EQ(At(keys, 1, 2, 5), 0);
  EXPECT_EQ(At(keys, 0, 2, 7), 8);
}

// One full layer and one with a window of 4 in a cache of 10 slots: three before the next token,
// and slots for the widest round of 4 behind each of 4 positions.
KVCache MakeSlidingCache(std::vector<int> capacities = {32, 64},
                         std::shared_ptr<Memory> memory = HostMemory()) {
  LayerState full;
  full.kv_heads = kHeads;
  full.head_dim = kHeadDim;
  LayerState window = full;
  window.kind = StateKind::kWindow;
  window.window = 4;
  ShapePlan shapes;
  shapes.batch = kBatch;
  shapes.roles["target"] = {{1, 2, 4}, 4, std::move(capacities), {{4, 10}}, {}, {}};
  return KVCache({{"target", {full, window}}}, shapes, std::move(memory));
}

TEST(KVCache, WindowSlidesEveryFewPositions) {
  KVCache cache = MakeSlidingCache();
  const Tensor values = Past(cache)[3];
  EXPECT_EQ(values.shape[2], 10);
  EXPECT_EQ(Past(cache)[0].shape[2], 32);
  for (int length = 0; length < 30; length += 2) {
    cache.Slide(1, length);
    const int offset = cache.window_offset(1);
    EXPECT_EQ(offset, std::max(length / 4 * 4 - 3, 0));
    ASSERT_LE(length - offset + 4, 10);
    for (int i = 0; i < 2; ++i) {
      At(values, 1, 2, length + i - offset) = static_cast<float>(length + i);
    }
    // The next token sees three before itself.
    for (int position = std::max(length - 1, 0); position < length + 2; ++position) {
      EXPECT_EQ(At(values, 1, 2, position - offset), position);
    }
  }
  EXPECT_EQ(cache.window_offset(0), 0);
  EXPECT_EQ(cache.Held(1, 30), 30);
  EXPECT_EQ(cache.Held(1, 20), 0);
  cache.CopyRow(1, 0, 30);
  EXPECT_EQ(cache.window_offset(0), cache.window_offset(1));
  EXPECT_EQ(At(values, 0, 2, 29 - cache.window_offset(0)), 29);
  cache.Begin(1);
  EXPECT_EQ(cache.window_offset(1), 0);
}

// Whatever rounds a text was read in, its next token finds what it sees in the same slots.
TEST(KVCache, OffsetIsAMatterOfThePosition) {
  KVCache cache = MakeSlidingCache();
  int length = 0;
  for (int width : {4, 3, 2, 4, 1, 4, 4}) {
    cache.Slide(0, length);
    const int rows = std::min(width, cache.Room(length));
    ASSERT_GE(rows, 1);
    for (int at = length; at < length + rows; ++at) {
      EXPECT_EQ(cache.window_offset(0), std::max(at / 4 * 4 - 3, 0));
    }
    length += rows;
  }
  EXPECT_EQ(MakeCache().Room(5), std::numeric_limits<int>::max());
}

// A cache that holds every text does not slide.
TEST(KVCache, WindowOfTheWholeTextStaysWhereItIs) {
  KVCache cache = MakeSlidingCache({4, 10});
  cache.Slide(0, 5);
  EXPECT_EQ(cache.window_offset(0), 0);
  EXPECT_EQ(Past(cache)[2].shape[2], 4);
  EXPECT_EQ(cache.Room(5), std::numeric_limits<int>::max());
}

// A window's cache is never larger than the others, and keeps what it holds when these grow.
TEST(KVCache, GrowingKeepsWhatAWindowHolds) {
  KVCache cache = MakeSlidingCache({6, 20, 64});
  int length = 0;
  for (int capacity : {6, 20, 64}) {
    cache.Grow(length + 2);
    ASSERT_EQ(cache.capacity(), capacity);
    EXPECT_EQ(Past(cache)[2].shape[2], std::min(capacity, 10));
    for (; length + 2 <= capacity && length < 40; length += 2) {
      cache.Slide(0, length);
      const int offset = cache.window_offset(0);
      const Tensor values = Past(cache)[3];
      for (int at = length; at < length + 2; ++at) {
        At(values, 0, 1, at - offset) = static_cast<float>(at);
      }
      for (int at = std::max(length - 2, 0); at < length + 2; ++at) {
        EXPECT_EQ(At(values, 0, 1, at - offset), at);
      }
    }
  }
  EXPECT_GT(cache.window_offset(0), 0);
  cache.Clear();
  EXPECT_EQ(cache.window_offset(0), 0);
}

// Measuring asks for a round behind a text that was never written.
TEST(KVCache, SlidingFarReadsNothingBeyondTheCache) {
  KVCache cache = MakeSlidingCache();
  cache.Slide(0, 29);
  EXPECT_EQ(cache.window_offset(0), 25);
}

// A drafter with a layer of its own and the target's window.
KVCache MakeSharedCache() {
  LayerState full;
  full.kv_heads = kHeads;
  full.head_dim = kHeadDim;
  LayerState window = full;
  window.kind = StateKind::kWindow;
  window.window = 4;
  LayerState shared = window;
  shared.shared_with = SharedLayer{"target", 1};
  LayerState own = full;
  own.kv_heads = 1;
  ShapePlan shapes;
  shapes.batch = kBatch;
  shapes.roles["target"] = {{1, 2, 4}, 4, {16, 32}, {{4, 10}}, {}, {}};
  shapes.roles["drafter"] = {{1, 2}, 1, {16, 32}, {{4, 10}}, {}, {}};
  return KVCache({{"target", {full, window}}, {"drafter", {own, shared}}}, shapes);
}

TEST(KVCache, SharedLayerIsTheOwnersBuffer) {
  const KVCache cache = MakeSharedCache();
  const std::vector<Tensor> target = Past(cache), drafter = Past(cache, "drafter");
  ASSERT_EQ(drafter.size(), 4U);
  EXPECT_EQ(drafter[2].name, "past_key_values.1.key");
  EXPECT_EQ(drafter[2].data, target[2].data);
  EXPECT_EQ(drafter[3].data, target[3].data);
  EXPECT_EQ(drafter[3].shape, target[3].shape);
  EXPECT_EQ(drafter[0].shape, (std::vector<std::int64_t>{kBatch, 1, 16, kHeadDim}));
  EXPECT_NE(drafter[0].data, target[0].data);
}

TEST(KVCache, RoleWithoutStatesHasNoPorts) {
  ShapePlan shapes;
  shapes.roles["target"] = {{1, 2, 4}, 4, {8}, {}, {}, {}};
  const KVCache cache({{"target", {}}}, shapes);
  EXPECT_TRUE(Past(cache).empty());
  EXPECT_EQ(cache.capacity(), 8);
}

TEST(KVCache, RolesThatShareMoveTogether) {
  KVCache cache = MakeSharedCache();
  const auto ports = [&] {
    return std::vector{Past(cache)[0], Past(cache)[3], Past(cache, "drafter")[0]};
  };
  for (const Tensor& tensor : ports()) {
    for (int slot = 0; slot < 8; ++slot) At(tensor, 0, 0, slot) = static_cast<float>(slot);
  }
  cache.Keep(0, 4, std::vector<int>{1, 3});
  cache.CopyRow(0, 1, 7);
  cache.Grow(17);
  for (const Tensor& tensor : ports()) {
    for (int row = 0; row < kBatch; ++row) {
      EXPECT_EQ(At(tensor, row, 0, 5), 5);
      EXPECT_EQ(At(tensor, row, 0, 6), 7);
    }
  }
  EXPECT_EQ(Past(cache, "drafter")[0].shape[2], 32);
  EXPECT_EQ(Past(cache, "drafter")[2].data, Past(cache)[2].data);
  cache.Slide(1, 8);
  EXPECT_EQ(cache.window_offset(1), 5);
  EXPECT_EQ(At(Past(cache)[3], 1, 0, 1), 7);
  EXPECT_EQ(At(Past(cache, "drafter")[3], 1, 0, 1), 7);
  cache.Clear();
  EXPECT_EQ(Past(cache, "drafter")[0].shape[2], 16);
}

// Everything that a cache does, in host memory and on a device: both hold the same after it.
TEST(KVCache, IsTheSameOnADevice) {
  SubstituteGpu gpu;
  auto memory = std::make_shared<DeviceMemory>(MakeSubstituteDevice(gpu));
  KVCache host = MakeSlidingCache({12, 24, 64});
  KVCache device = MakeSlidingCache({12, 24, 64}, memory);
  std::vector<float> numbers(kBatch * kHeads * 64 * kHeadDim);
  float next = 1;
  const auto write = [&] {
    const std::vector<Tensor> on_host = Past(host), on_device = Past(device);
    for (std::size_t i = 0; i < on_host.size(); ++i) {
      float* data = static_cast<float*>(on_host[i].data);
      for (std::size_t at = 0; at < on_host[i].bytes() / sizeof(float); ++at) data[at] = next++;
      memory->device().CopyIn(on_device[i].data, data, on_host[i].bytes());
      memory->device().Synchronise();
    }
  };
  const auto expect_same = [&](const char* after) {
    const std::vector<Tensor> on_host = Past(host), on_device = Past(device);
    for (std::size_t i = 0; i < on_host.size(); ++i) {
      ASSERT_EQ(on_host[i].shape, on_device[i].shape);
      memory->device().CopyOut(numbers.data(), on_device[i].data, on_host[i].bytes());
      memory->device().Synchronise();
      EXPECT_EQ(std::memcmp(numbers.data(), on_host[i].data, on_host[i].bytes()), 0)
          << on_host[i].name << " after " << after;
    }
  };
  const auto both = [&](const char* what, auto change) {
    change(host);
    change(device);
    expect_same(what);
  };
  expect_same("nothing");
  write();
  both("sliding", [](KVCache& cache) { cache.Slide(1, 9); });
  both("copying a row", [](KVCache& cache) { cache.CopyRow(1, 0, 9); });
  both("keeping", [](KVCache& cache) { cache.Keep(0, 8, std::vector<int>{2, 3}); });
  both("growing", [](KVCache& cache) { cache.Grow(20); });
  write();
  both("sliding far", [](KVCache& cache) { cache.Slide(0, 19); });
  both("growing again", [](KVCache& cache) { cache.Grow(60); });
  both("clearing", [](KVCache& cache) { cache.Clear(); });
  EXPECT_EQ(gpu.violations, 0);
  EXPECT_GT(gpu.copies_within, 0);
}

}  // namespace
}  // namespace ptgc
