#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "chi_square.h"
#include "sampling/gumbel_noise.h"

namespace ptgc {
namespace {

constexpr std::int64_t kPrime = GumbelNoise::kPrime;
constexpr int kNumbers = 50000;

// As the definition is written, in the operations that an ONNX graph has.
std::int64_t DefinedNumber(std::uint64_t seed, std::int64_t position, std::int64_t token) {
  const auto words = PhiloxAt(seed, position, RandomStream::kChoose);
  const std::int64_t multiplier = 1 + words[1] % (kPrime - 1);
  const std::int64_t a = (words[0] % kPrime + multiplier * token) % kPrime;
  const std::int64_t b = (a * a + words[2] % kPrime) % kPrime;
  return (b * b + a + words[3] % kPrime) % kPrime;
}

double UniformOf(std::uint64_t seed, std::int64_t position, TokenId token,
                 RandomStream stream = RandomStream::kChoose) {
  return (GumbelNoise(seed, position, stream).Number(token) + 0.5) / static_cast<double>(kPrime);
}

// Texts with a seed must stay what they are: these numbers never change.
TEST(GumbelNoise, GivesTheKnownAnswers) {
  const GumbelNoise first(0, 0, RandomStream::kChoose);
  const GumbelNoise other(1234567890123456789, 4096, RandomStream::kDraft);
  EXPECT_EQ(first.Number(0), 826937990);
  EXPECT_EQ(first.Number(1), 1610048986);
  EXPECT_EQ(first.Number(151935), 1310240924);
  EXPECT_EQ(other.Number(7), 1323541678);
}

TEST(GumbelNoise, IsWhatItsDefinitionSays) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const std::int64_t position = static_cast<std::int64_t>(seed * seed * 1000003);
    const GumbelNoise noise(seed << (seed % 60), position, RandomStream::kChoose);
    for (const TokenId token : {0, 1, 2, 63, 64, 49151, 262143, 2147483646}) {
      const std::int64_t number = DefinedNumber(seed << (seed % 60), position, token);
      ASSERT_EQ(noise.Number(token), number);
      const long double u = (static_cast<long double>(number) + 0.5L) / kPrime;
      const double gumbel = static_cast<double>(-std::log(-std::log(u)));
      EXPECT_NEAR(noise.At(token), gumbel, 1e-14 * std::fabs(gumbel) + 1e-15);
    }
  }
}

TEST(GumbelNoise, BoundOfABlockIsNearItsLargest) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const GumbelNoise noise(seed, 5, RandomStream::kChoose);
    for (std::int64_t block = 0; block < 3000; ++block) {
      double largest = -10;
      for (TokenId token = 64 * block; token < 64 * (block + 1); ++token) {
        largest = std::max(largest, noise.At(token));
      }
      const double bound = noise.BlockBound(block);
      ASSERT_GE(bound, largest);
      ASSERT_LE(bound, largest < 8 ? largest + 0.3 : GumbelNoise::kMost);
    }
  }
}

// Numbers that must be independent of each other and even.
struct Sequence {
  const char* name;                   // What goes on from one to the next.
  std::function<double(int)> number;  // Of [0, 1).
};

std::vector<Sequence> Sequences() {
  return {{"Tokens", [](int i) { return UniformOf(3, 17, i); }},
          {"Positions", [](int i) { return UniformOf(3, i, 1000); }},
          {"Seeds", [](int i) { return UniformOf(static_cast<std::uint64_t>(i), 17, 1000); }},
          {"DistantTokens", [](int i) { return UniformOf(4, 17, 64 * i); }},
          {"TokensOfTwoStreams",
           [](int i) {
             return UniformOf(5, 1, i / 2,
                              i % 2 == 0 ? RandomStream::kChoose : RandomStream::kDraft);
           }},
          {"TokensOfTwoPositions", [](int i) { return UniformOf(6, i % 2, i / 2); }},
          {"TokensOfTwoSeeds",
           [](int i) { return UniformOf(static_cast<std::uint64_t>(i % 2), 9, i / 2); }}};
}

class NoiseNumbers : public testing::TestWithParam<std::size_t> {
 protected:
  NoiseNumbers() {
    const Sequence sequence = Sequences()[GetParam()];
    for (int i = 0; i < kNumbers; ++i) numbers_.push_back(sequence.number(i));
  }
  // Counts the cells, `size` to a side, of numbers at a distance of each other.
  double PairTest(std::size_t size, std::size_t distance) const {
    std::vector<long> counts(size * size);
    for (std::size_t i = distance; i < numbers_.size(); ++i) {
      const auto cell = [&](double u) {
        return static_cast<std::size_t>(u * static_cast<double>(size));
      };
      ++counts[cell(numbers_[i - distance]) * size + cell(numbers_[i])];
    }
    const double share = 1.0 / static_cast<double>(size * size);
    return ChiSquareProbability(counts, std::vector<double>(size * size, share));
  }
  std::vector<double> numbers_;  // The beginning of the sequence.
};

TEST_P(NoiseNumbers, AreEven) {
  for (const std::size_t cells : {20UL, 1000UL}) {
    std::vector<long> counts(cells);
    for (double u : numbers_) ++counts[static_cast<std::size_t>(u * static_cast<double>(cells))];
    const std::vector<double> even(cells, 1.0 / static_cast<double>(cells));
    EXPECT_GT(ChiSquareProbability(counts, even), 1e-4);
  }
}

TEST_P(NoiseNumbers, AreNotCorrelated) {
  for (std::size_t distance = 1; distance <= 8; ++distance) {
    double sum = 0;
    for (std::size_t i = distance; i < numbers_.size(); ++i) {
      sum += (numbers_[i - distance] - 0.5) * (numbers_[i] - 0.5) * 12;
    }
    EXPECT_LT(std::fabs(sum), 4.2 * std::sqrt(kNumbers)) << distance;
  }
}

TEST_P(NoiseNumbers, PairsFillTheSquare) {
  for (const std::size_t distance : {1UL, 2UL, 3UL, 64UL}) {
    EXPECT_GT(PairTest(16, distance), 1e-4) << distance;
  }
}

INSTANTIATE_TEST_SUITE_P(Sequences, NoiseNumbers,
                         testing::Range(std::size_t{0}, Sequences().size()),
                         [](const auto& info) { return Sequences()[info.param].name; });

// Finite differences of a polynomial in the token would show here first.
TEST(GumbelNoise, LargestOfNeighboursIsEachEquallyOften) {
  for (const int neighbours : {3, 5, 6, 8}) {
    std::vector<long> counts(static_cast<std::size_t>(neighbours));
    for (int position = 0; position < 200000; ++position) {
      const GumbelNoise noise(11, position, RandomStream::kChoose);
      int largest = 0;
      for (int token = 1; token < neighbours; ++token) {
        if (noise.Number(token) > noise.Number(largest)) largest = token;
      }
      ++counts[static_cast<std::size_t>(largest)];
    }
    const std::vector<double> even(counts.size(), 1.0 / neighbours);
    EXPECT_GT(ChiSquareProbability(counts, even), 1e-4) << neighbours;
  }
}

}  // namespace
}  // namespace ptgc
