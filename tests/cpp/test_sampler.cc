#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "chi_square.h"
#include "counted_new.h"
#include "reference_distribution.h"
#include "sampling/random.h"
#include "sampling/sampler.h"

namespace ptgc {
namespace {

LogitsRow Row(const std::vector<float>& logits) {
  return {logits.data(), DType::kFloat32, static_cast<std::int64_t>(logits.size())};
}

TokenCounts Count(const Text& text, std::int64_t vocab_size) {
  TokenCounts counts(vocab_size, 100);
  counts.AppendPrompt(text.prompt);
  for (TokenId id : text.generated) counts.Push(id);
  return counts;
}

// Options of every kind, alone and together.
std::vector<SamplingOptions> ManyOptions() {
  return {{.temperature = 1},
          {.temperature = 0.3},
          {.temperature = 3},
          {.temperature = 1, .top_k = 1},
          {.temperature = 1, .top_k = 5},
          {.temperature = 2, .top_k = 300},
          {.temperature = 1, .top_p = 0.5},
          {.temperature = 0.7, .top_p = 0.95},
          {.temperature = 4, .top_p = 0.99},
          {.temperature = 1, .top_p = 1e-6},
          {.temperature = 1, .min_p = 0.1},
          {.temperature = 3, .min_p = 0.01},
          {.temperature = 1, .min_p = 1},
          {.temperature = 0.8, .top_k = 40, .top_p = 0.9},
          {.temperature = 1.5, .top_k = 50, .top_p = 0.8, .min_p = 0.05},
          {.temperature = 1, .repetition_penalty = 1.3},
          {.temperature = 1, .presence_penalty = 1.5, .frequency_penalty = 0.7},
          {.temperature = 0.9,
           .top_k = 20,
           .top_p = 0.9,
           .min_p = 0.02,
           .repetition_penalty = 0.8,
           .presence_penalty = -0.5,
           .frequency_penalty = 1,
           .logit_bias = {{0, 2}, {1, -std::numeric_limits<float>::infinity()}}},
          {},
          {.repetition_penalty = 2, .frequency_penalty = 1}};
}

GumbelNoise Noise(std::uint64_t seed, std::int64_t position = 0) {
  return {seed, position, RandomStream::kChoose};
}

// How far the score of a token is below the best one.
double Behind(TokenId token, const std::vector<double>& probabilities, const GumbelNoise& noise) {
  const auto score = [&](TokenId id) {
    return std::log(probabilities[static_cast<std::size_t>(id)]) + noise.At(id);
  };
  double best = score(token);
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    best = std::max(best, score(static_cast<TokenId>(i)));
  }
  return best - score(token);
}

struct Case {
  std::int64_t size;  // Of the row.
  Spread spread;      // Of its logits.
};

class SamplerDistribution : public testing::TestWithParam<Case> {};

TEST_P(SamplerDistribution, IsTheReferenceForEveryOption) {
  const auto [size, spread] = GetParam();
  const Text text = {{0, 1, 2, 0}, {2, 3, 3, 0}};
  const Text within = size > 3 ? text : Text{{0}, {0}};
  const TokenCounts counts = Count(within, size + 2);
  Sampler sampler(size);
  std::vector<float> written(static_cast<std::size_t>(size) + 3, -1.0F);
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    for (SamplingOptions options : ManyOptions()) {
      if (size < 2) options.logit_bias.clear();
      const std::vector<float> logits = MadeUpLogits(size, spread, seed);
      const std::vector<double> expected = ReferenceDistribution(logits, options, within);
      ASSERT_TRUE(sampler.Read(Row(logits), options, &counts));
      sampler.WriteProbabilities(written);
      for (std::int64_t id = 0; id < size; ++id) {
        const double probability = expected[static_cast<std::size_t>(id)];
        ASSERT_NEAR(sampler.Probability(id), probability, 1e-5 * probability + 1e-35);
        ASSERT_EQ(written[static_cast<std::size_t>(id)], sampler.Probability(id));
      }
      EXPECT_EQ(written.back(), 0);
      EXPECT_EQ(sampler.Probability(size), 0);
      for (std::int64_t position = 0; position < 5; ++position) {
        const GumbelNoise noise = Noise(seed, position);
        const TokenId token = sampler.Choose(noise);
        ASSERT_GT(expected[static_cast<std::size_t>(token)], 0);
        ASSERT_LT(Behind(token, expected, noise), 1e-5);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, SamplerDistribution,
                         testing::Values(Case{1, Spread::kNormal}, Case{2, Spread::kNormal},
                                         Case{7, Spread::kPeaked}, Case{65, Spread::kFlat},
                                         Case{300, Spread::kMasked}, Case{1000, Spread::kNormal},
                                         Case{5000, Spread::kFlat}, Case{5000, Spread::kNormal},
                                         Case{5000, Spread::kPeaked}),
                         [](const auto& info) { return "Row" + std::to_string(info.index); });

class SamplerChoice : public testing::TestWithParam<Spread> {};

TEST_P(SamplerChoice, IsTheLargestScoreOfTheWholeRow) {
  constexpr std::int64_t kSize = 3001;
  Sampler sampler(kSize);
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const std::vector<float> logits = MadeUpLogits(kSize, GetParam(), seed);
    const double temperature = std::pow(10, static_cast<double>(seed % 7) - 3);
    const GumbelNoise noise = Noise(seed, 33);
    TokenId best = 0;
    const auto score = [&](TokenId id) {
      return Score(logits[static_cast<std::size_t>(id)], temperature, noise.At(id));
    };
    for (TokenId id = 1; id < kSize; ++id) best = score(id) > score(best) ? id : best;
    ASSERT_TRUE(sampler.Read(Row(logits), {.temperature = temperature}, nullptr));
    ASSERT_EQ(sampler.Choose(noise), best);
  }
}

INSTANTIATE_TEST_SUITE_P(Spreads, SamplerChoice,
                         testing::Values(Spread::kNormal, Spread::kFlat, Spread::kPeaked,
                                         Spread::kTied, Spread::kMasked));

TEST(Sampler, EqualScoresGoToTheLowestId) {
  // So large that the noise is lost in rounding.
  std::vector<float> logits(200, 1e30F);
  logits[0] = 0;
  Sampler sampler(200);
  ASSERT_TRUE(sampler.Read(Row(logits), {.temperature = 1}, nullptr));
  for (std::uint64_t seed = 0; seed < 10; ++seed) EXPECT_EQ(sampler.Choose(Noise(seed)), 1);
}

// The largest token that is ever chosen.
TokenId LargestChosen(Sampler& sampler, const std::vector<float>& logits,
                      const SamplingOptions& options) {
  TokenId largest = kNoToken;
  if (!sampler.Read(Row(logits), options, nullptr)) return largest;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    largest = std::max(largest, sampler.Choose(Noise(seed)));
  }
  return largest;
}

TEST(Sampler, TiedTokensAreCutByTheirIds) {
  const std::vector<float> logits(500, 0.5F);
  Sampler sampler(500);
  ASSERT_TRUE(sampler.Read(Row(logits), {.temperature = 1, .top_k = 3}, nullptr));
  EXPECT_GT(sampler.Probability(2), 0.33F);
  EXPECT_EQ(sampler.Probability(3), 0);
  EXPECT_EQ(LargestChosen(sampler, logits, {.temperature = 1, .top_k = 3}), 2);
  EXPECT_EQ(LargestChosen(sampler, logits, {.temperature = 1, .top_p = 0.009}), 4);
  EXPECT_GT(LargestChosen(sampler, logits, {.temperature = 1, .min_p = 1}), 490);
}

TEST(Sampler, ShareThatIsReachedExactlyNeedsNoMore) {
  const std::vector<float> logits = {0, 0, -1e30F, 0, 0};
  Sampler sampler(5);
  ASSERT_TRUE(sampler.Read(Row(logits), {.temperature = 1, .top_p = 0.5}, nullptr));
  EXPECT_EQ(sampler.Probability(1), 0.5F);
  EXPECT_EQ(sampler.Probability(3), 0);
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  Sampler sampler(4);
  const std::vector<float> logits = {1, 3, 3, 2};
  ASSERT_TRUE(sampler.Read(Row(logits), {}, nullptr));
  EXPECT_EQ(sampler.Choose(Noise(0)), 1);
  const TokenCounts counts = Count({{1}, {}}, 4);
  ASSERT_TRUE(sampler.Read(Row(logits), {.repetition_penalty = 1.5}, &counts));
  EXPECT_EQ(sampler.Choose(Noise(0)), 2);
}

TEST(Sampler, HalfLogitsGiveWhatTheirFloatsGive) {
  std::vector<std::uint16_t> words(400);
  std::vector<float> values(words.size());
  const std::vector<float> made_up = MadeUpLogits(400, Spread::kNormal, 9);
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(made_up[i]) >> 16);
    values[i] = std::bit_cast<float>(static_cast<std::uint32_t>(words[i]) << 16);
  }
  const SamplingOptions options = {.temperature = 1, .top_p = 0.9};
  Sampler half(400);
  Sampler full(400);
  ASSERT_TRUE(half.Read({words.data(), DType::kBFloat16, 400}, options, nullptr));
  ASSERT_TRUE(full.Read(Row(values), options, nullptr));
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    EXPECT_EQ(half.Choose(Noise(seed)), full.Choose(Noise(seed)));
  }
}

TEST(Sampler, RowsWithoutAChoiceAreRefused) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  Sampler sampler(3);
  for (const double temperature : {0.0, 1.0}) {
    const SamplingOptions options = {.temperature = temperature};
    EXPECT_FALSE(sampler.Read(Row({0, nan, 1}), options, nullptr));
    EXPECT_FALSE(sampler.Read(Row({0, infinity, 1}), options, nullptr));
    EXPECT_FALSE(sampler.Read(Row({-infinity, -infinity, -infinity}), options, nullptr));
  }
}

class SampledCounts : public testing::TestWithParam<std::size_t> {};

TEST_P(SampledCounts, FollowTheExactDistribution) {
  const SamplingOptions options = ManyOptions()[GetParam()];
  const std::vector<float> logits = MadeUpLogits(12, Spread::kNormal, 5);
  const Text text = {{0, 1, 2, 0}, {2, 3, 3, 0}};
  const TokenCounts counts = Count(text, 12);
  Sampler sampler(12);
  std::vector<long> drawn(12);
  for (int position = 0; position < 50000; ++position) {
    ASSERT_TRUE(sampler.Read(Row(logits), options, &counts));
    const TokenId token = sampler.Choose(Noise(1, position));
    ++drawn[static_cast<std::size_t>(token)];
  }
  EXPECT_GT(ChiSquareProbability(drawn, ReferenceDistribution(logits, options, text)), 1e-3);
  SamplingOptions wrong = options;
  wrong.temperature = options.temperature * 1.1;
  const std::vector<double> other = ReferenceDistribution(logits, wrong, text);
  const bool has_choice = *std::max_element(other.begin(), other.end()) < 1;
  if (has_choice && options.min_p < 1) {
    EXPECT_LT(ChiSquareProbability(drawn, other), 1e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(Options, SampledCounts,
                         testing::Range(std::size_t{0}, ManyOptions().size()),
                         [](const auto& info) { return "Set" + std::to_string(info.index); });

TEST(Sampler, AllocatesNothingOnceMade) {
  constexpr std::int64_t kSize = 9001;
  const std::vector<std::vector<float>> rows = {MadeUpLogits(kSize, Spread::kNormal, 1),
                                                MadeUpLogits(kSize, Spread::kFlat, 1),
                                                std::vector<float>(kSize, 1.0F)};
  const TokenCounts counts = Count({{0, 1}, {2}}, kSize);
  const std::vector<SamplingOptions> all = ManyOptions();
  std::vector<float> written(kSize);
  Sampler sampler(kSize);
  const long before = NumAllocations();
  for (const std::vector<float>& row : rows) {
    for (const SamplingOptions& options : all) {
      ASSERT_TRUE(sampler.Read(Row(row), options, &counts));
      sampler.Choose(Noise(1));
      sampler.WriteProbabilities(written);
    }
  }
  EXPECT_EQ(NumAllocations(), before);
}

}  // namespace
}  // namespace ptgc
