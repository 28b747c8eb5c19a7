#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "float_bits.h"
#include "kernels/cached_attention.h"
#include "kernels/instruction_sets.h"

namespace ptgc {
namespace {

// A cache of one head, and queries of rows that see parts of it.
struct Fixture {
  Fixture(int head_dim, int slots, std::uint32_t seed) : dim(head_dim), chance(seed) {
    keys = Random(slots);
    values = Random(slots);
  }
  std::vector<float> Random(int count) {
    std::normal_distribution<float> value;
    std::vector<float> made(static_cast<std::size_t>(count * dim));
    for (float& one : made) one = value(chance);
    return made;
  }
  // The outputs of all queries, [count, head_dim].
  std::vector<float> Attend(const AttentionKernel& kernel, const std::vector<float>& queries,
                            const std::vector<SeenSlots>& seen) const {
    std::vector<float> out(queries.size(), -1);
    std::vector<const float*> from;
    std::vector<float*> to;
    std::vector<const SeenSlots*> slots;
    AttentionTask task;
    for (std::size_t q = 0; q < seen.size(); ++q) {
      from.push_back(queries.data() + q * static_cast<std::size_t>(dim));
      to.push_back(out.data() + q * static_cast<std::size_t>(dim));
      slots.push_back(&seen[q]);
      task.most_seen = std::max(task.most_seen, static_cast<std::size_t>(seen[q].count()));
    }
    std::vector<float> scores(seen.size() * task.most_seen);
    task.head_dim = dim;
    task.scale = 0.3F;
    task.softcap = softcap;
    task.count = static_cast<int>(seen.size());
    task.queries = from.data();
    task.out = to.data();
    task.seen = slots.data();
    std::vector<std::uint16_t> half_keys(keys.size()), half_values(values.size());
    std::vector<float> widened(static_cast<std::size_t>(kSlotsAtOnce * dim));
    kernel.narrow(keys.data(), static_cast<int>(keys.size()), half_keys.data());
    kernel.narrow(values.data(), static_cast<int>(values.size()), half_values.data());
    task.keys = is_half ? static_cast<const void*>(half_keys.data()) : keys.data();
    task.values = is_half ? static_cast<const void*>(half_values.data()) : values.data();
    task.is_half = is_half;
    task.scores = scores.data();
    task.widened = widened.data();
    kernel.attend(task);
    return out;
  }
  // The same of one query in float64.
  std::vector<double> Exact(const float* query, const std::vector<int>& slots) const {
    std::vector<double> weights, out(static_cast<std::size_t>(dim));
    double total = 0;
    for (const int slot : slots) {
      double score = 0;
      for (int d = 0; d < dim; ++d) {
        score += static_cast<double>(query[d]) * static_cast<double>(keys[At(slot, d)]);
      }
      score *= 0.3;
      if (softcap > 0)
        score = static_cast<double>(softcap) * std::tanh(score / static_cast<double>(softcap));
      weights.push_back(std::exp(score));
      total += weights.back();
    }
    for (std::size_t i = 0; i < slots.size(); ++i) {
      for (int d = 0; d < dim; ++d) {
        out[static_cast<std::size_t>(d)] +=
            weights[i] / total * static_cast<double>(values[At(slots[i], d)]);
      }
    }
    return out;
  }
  std::size_t At(int slot, int d) const { return static_cast<std::size_t>(slot * dim + d); }

  int dim;
  float softcap = 0;
  bool is_half = false;
  std::mt19937 chance;
  std::vector<float> keys, values;
};

std::vector<int> SlotsOf(const SeenSlots& seen) {
  std::vector<int> slots;
  for (int slot = seen.begin; slot < seen.end; ++slot) slots.push_back(slot);
  slots.insert(slots.end(), seen.others.begin(), seen.others.end());
  return slots;
}

class CachedAttention : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(HeadDims, CachedAttention, testing::Values(8, 16, 23, 64, 80, 128, 256));

TEST_P(CachedAttention, IsThatOfFloat64AndTheSameOnEveryInstructionSet) {
  for (const auto& [softcap, is_half] : {std::pair{0.0F, false}, {2.0F, false}, {0.0F, true}}) {
    Fixture fixture(GetParam(), 120, 1);
    fixture.softcap = softcap;
    fixture.is_half = is_half;
    const std::vector<std::int32_t> tree = {101, 104, 105}, itself = {103};
    const std::vector<SeenSlots> seen = {{0, 100, tree}, {37, 100, itself}, {0, 0, itself},
                                         {99, 100, {}},  {0, 33, {}},       {64, 96, tree}};
    const std::vector<float> queries = fixture.Random(6);
    const std::vector<float> out = fixture.Attend(*AllAttentionKernels().back(), queries, seen);
    for (const AttentionKernel* kernel : AllAttentionKernels()) {
      if (!kernel->is_supported()) continue;
      EXPECT_TRUE(SameBits(fixture.Attend(*kernel, queries, seen), out)) << kernel->name;
    }
    for (std::size_t q = 0; q < seen.size(); ++q) {
      const std::size_t at = q * static_cast<std::size_t>(GetParam());
      const std::vector<double> exact = fixture.Exact(queries.data() + at, SlotsOf(seen[q]));
      for (std::size_t d = 0; d < exact.size(); ++d)
        EXPECT_NEAR(out[at + d], exact[d], is_half ? 1e-2 : 1e-5);
    }
  }
}

// Text that was accepted from a tree has the bits of text that was written in order: the same keys
// and values, wherever they are.
TEST_P(CachedAttention, DoesNotDependOnSlotsOrOtherQueries) {
  Fixture tree(GetParam(), 80, 2);
  Fixture order = tree;
  const std::vector<std::int32_t> path = {52, 57, 61, 70};
  for (std::size_t i = 0; i < path.size(); ++i) {
    for (int d = 0; d < GetParam(); ++d) {
      order.keys[order.At(50 + static_cast<int>(i), d)] = tree.keys[tree.At(path[i], d)];
      order.values[order.At(50 + static_cast<int>(i), d)] = tree.values[tree.At(path[i], d)];
    }
  }
  const std::vector<float> queries = tree.Random(3);
  const std::vector<float> first(queries.begin(), queries.begin() + GetParam());
  for (const AttentionKernel* kernel : AllAttentionKernels()) {
    if (!kernel->is_supported()) continue;
    const std::vector<float> alone = order.Attend(*kernel, first, {{0, 54, {}}});
    const std::vector<float> among = tree.Attend(
        *kernel, queries, {{0, 50, path}, {0, 50, std::span(path).first(1)}, {0, 7, {}}});
    EXPECT_TRUE(SameBits(alone, std::span(among).first(alone.size()))) << kernel->name;
    // So has a cache that slid.
    Fixture slid = order;
    slid.keys.erase(slid.keys.begin(), slid.keys.begin() + 9 * GetParam());
    slid.values.erase(slid.values.begin(), slid.values.begin() + 9 * GetParam());
    EXPECT_TRUE(SameBits(order.Attend(*kernel, first, {{21, 54, {}}}),
                         slid.Attend(*kernel, first, {{12, 45, {}}})))
        << kernel->name;
  }
}

TEST(AttentionKernels, AreNoFasterThanWhatTheEnvironmentNames) {
  for (const char* name :
       {"avx512-vnni", "avx-vnni", "avx2", "neon-i8mm", "neon-dotprod", "portable", "none"}) {
    setenv("PTGC_KERNELS", name, 1);
    const AttentionKernel& chosen = ChooseKernel<AttentionKernel>(AllAttentionKernels());
    EXPECT_TRUE(chosen.is_supported() &&
                (Rank(chosen.name) >= Rank(name) || chosen.name == "portable"));
    for (const AttentionKernel* other : AllAttentionKernels()) {
      if (Rank(other->name) >= Rank(name) && Rank(other->name) < Rank(chosen.name)) {
        EXPECT_FALSE(other->is_supported()) << other->name;
      }
    }
  }
  unsetenv("PTGC_KERNELS");
}

TEST(AttentionKernels, NarrowToTheNearestHalf) {
  const std::vector<float> values = {
      0,     1,     -2.5F, 1 + 0x1p-11F, 1 + 0x3p-11F, 0x1p-14F, 0x1.8p-24F, 0x1p-25F, -0x1p-26F,
      65504, 65519, 65520, -1e30F,       0x1.7p-20F,   3.0e-6F,  -INFINITY,  0.333F,   1e-8F};
  const std::vector<std::uint16_t> halves = {0,      0x3C00, 0xC100, 0x3C00, 0x3C02, 0x0400,
                                             0x0002, 0,      0x8000, 0x7BFF, 0x7BFF, 0x7BFF,
                                             0xFBFF, 0x0017, 0x0032, 0xFBFF, 0x3554, 0};
  for (const AttentionKernel* kernel : AllAttentionKernels()) {
    if (!kernel->is_supported()) continue;
    std::vector<std::uint16_t> out(values.size());
    kernel->narrow(values.data(), static_cast<int>(values.size()), out.data());
    EXPECT_EQ(out, halves) << kernel->name;
    const float bad = std::nanf("");
    kernel->narrow(&bad, 1, out.data());
    EXPECT_GT(out[0] & 0x7FFF, 0x7C00) << kernel->name;
  }
}

// The numbers were written down on x86-64; any other machine must give the same.
TEST(AttentionKernels, BitsAreTheSameOnEveryMachine) {
  Fixture fixture(64, 200, 1);
  fixture.keys = FixedNumbers(fixture.keys.size(), 1);
  fixture.values = FixedNumbers(fixture.values.size(), 2);
  const std::vector<float> queries = FixedNumbers(2 * 64, 3);
  const std::vector<std::int32_t> tree = {181, 190};
  const std::vector<SeenSlots> seen = {{0, 180, tree}, {33, 180, {}}};
  for (const AttentionKernel* kernel : AllAttentionKernels()) {
    if (!kernel->is_supported()) continue;
    fixture.softcap = 0;
    EXPECT_EQ(Fingerprint(fixture.Attend(*kernel, queries, seen)), 7068696386150042958ULL)
        << kernel->name;
    fixture.is_half = true;
    EXPECT_EQ(Fingerprint(fixture.Attend(*kernel, queries, seen)), 10091961681682739290ULL)
        << kernel->name;
    fixture.is_half = false;
    fixture.softcap = 1;
    EXPECT_EQ(Fingerprint(fixture.Attend(*kernel, queries, seen)), 16659492496850906350ULL)
        << kernel->name;
  }
}

}  // namespace
}  // namespace ptgc
