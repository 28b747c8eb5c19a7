#include <gtest/gtest.h>

#include <cstring>

#include "error.h"
#include "kv_cache.h"

namespace ptgc {
namespace {

constexpr int kBatch = 2;
constexpr int kHeads = 3;
constexpr int kHeadDim = 4;

KVCache MakeCache() {
  LayerState state;
  state.kv_heads = kHeads;
  state.head_dim = kHeadDim;
  return KVCache({state, state}, kBatch, {8, 16, 32});
}

// Element [b, h, slot, 0] of a port.
float& At(const Tensor& tensor, int b, int h, int slot) {
  const std::int64_t index = (b * tensor.shape[1] + h) * tensor.shape[2] + slot;
  return static_cast<float*>(tensor.data)[index * tensor.shape[3]];
}

std::vector<Tensor> Past(const KVCache& cache) {
  std::vector<Tensor> tensors;
  cache.AppendPast(tensors);
  return tensors;
}

TEST(KVCache, PastAndPresentAreOneBuffer) {
  const KVCache cache = MakeCache();
  std::vector<Tensor> present;
  cache.AppendPresent(present);
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
  cache.Grow(8, 5);
  EXPECT_EQ(cache.capacity(), 8);
  cache.Grow(17, 5);
  EXPECT_EQ(cache.capacity(), 32);
  for (const Tensor& tensor : Past(cache)) {
    EXPECT_EQ(tensor.shape[2], 32);
    for (int slot = 0; slot < 5; ++slot) EXPECT_EQ(At(tensor, 1, 2, slot), slot + 1);
    EXPECT_EQ(At(tensor, 1, 2, 5), 0.0F);
  }
}

TEST(KVCache, ResetReturnsToTheSmallestAndIsEmpty) {
  KVCache cache = MakeCache();
  At(Past(cache)[0], 0, 0, 0) = 5;
  cache.Grow(9, 1);
  cache.Reset();
  EXPECT_EQ(cache.capacity(), 8);
  EXPECT_EQ(At(Past(cache)[0], 0, 0, 0), 0.0F);
}

TEST(KVCache, RefusesWhatThePlanDoesNotHold) {
  KVCache cache = MakeCache();
  try {
    cache.Grow(33, 0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCapacity);
  }
}

TEST(KVCache, GatherMovesAcceptedNodesTogether) {
  KVCache cache = MakeCache();
  const Tensor keys = Past(cache)[2];
  for (int slot = 0; slot < 8; ++slot) {
    At(keys, 1, 1, slot) = static_cast<float>(slot);
    At(keys, 0, 1, slot) = static_cast<float>(slot);
  }
  cache.Gather(1, 2, std::vector<int>{2, 5});
  EXPECT_EQ(At(keys, 1, 1, 2), 2);
  EXPECT_EQ(At(keys, 1, 1, 3), 4);
  EXPECT_EQ(At(keys, 1, 1, 4), 7);
  EXPECT_EQ(At(keys, 0, 1, 3), 3);
}

}  // namespace
}  // namespace ptgc
