#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>
#include <vector>

#include "chi_square.h"
#include "sampling/random.h"

namespace ptgc {
namespace {

using Words = std::array<std::uint32_t, 4>;

// The lines "philox4x32 10" of Random123's tests/kat_vectors.
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Texts with a seed must stay what they are: these numbers never change.
TEST(Uniform, IsTheHighBitsOfTheBlock) {
  EXPECT_EQ(Uniform(0, 0, RandomStream::kChoose),
            static_cast<double>((0x6627e8d5ULL << 21) | (0xe169c58dULL >> 11)) / 0x1p53);
}

TEST(Uniform, DependsOnEveryBitOfSeedPositionAndStream) {
  std::set<double> seen;
  for (int bit = 0; bit < 64; ++bit) {
    seen.insert(Uniform(std::uint64_t{1} << bit, 0, RandomStream::kChoose));
    if (bit < 63) seen.insert(Uniform(0, std::int64_t{1} << bit, RandomStream::kChoose));
  }
  for (RandomStream stream : {RandomStream::kChoose, RandomStream::kAccept, RandomStream::kResidual,
                              RandomStream::kDraft}) {
    seen.insert(Uniform(0, 0, stream));
  }
  EXPECT_EQ(seen.size(), 64U + 63U + 4U);
}

TEST(Uniform, IsEvenOverPositions) {
  std::vector<long> counts(20);
  for (int position = 0; position < 50000; ++position) {
    const double uniform = Uniform(17, position, RandomStream::kChoose);
    ASSERT_TRUE(uniform >= 0 && uniform < 1);
    ++counts[static_cast<std::size_t>(uniform * 20)];
  }
  EXPECT_GT(ChiSquareProbability(counts, std::vector<double>(20, 0.05)), 1e-3);
}

TEST(Uniform, StreamsOfAPositionAreIndependent) {
  std::vector<long> counts(16);
  for (int position = 0; position < 50000; ++position) {
    const double a = Uniform(3, position, RandomStream::kAccept);
    const double b = Uniform(3, position, RandomStream::kResidual);
    ++counts[static_cast<std::size_t>(a * 4) * 4 + static_cast<std::size_t>(b * 4)];
  }
  EXPECT_GT(ChiSquareProbability(counts, std::vector<double>(16, 1.0 / 16)), 1e-3);
}

TEST(ChiSquare, KnowsItsTable) {
  // 3.841 is the 5 % point of one degree of freedom, 18.307 of ten.
  EXPECT_NEAR(ChiSquareProbability(std::vector<long>{598, 402}, std::vector<double>{.567, .433}),
              0.048, 0.002);
  EXPECT_NEAR(ChiSquareProbability(std::vector<long>{531, 469}, std::vector<double>{.5, .5}), 0.05,
              0.001);
  EXPECT_EQ(ChiSquareProbability(std::vector<long>{999, 1}, std::vector<double>{1, 0}), 0);
}

}  // namespace
}  // namespace ptgc
