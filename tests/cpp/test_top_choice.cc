#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "counted_new.h"
#include "reference_distribution.h"
#include "sampling/sampler.h"
#include "sampling/top_choice.h"

namespace ptgc {
namespace {

const GumbelNoise kNoise(1, 2, RandomStream::kChoose);
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The largest of a row, as an engine gives them.
class Top {
 public:
  Top(const std::vector<float>& logits, std::size_t count, bool has_sum) {
    std::vector<TokenId> order(logits.size());
    std::iota(order.begin(), order.end(), TokenId{0});
    const auto value = [&](TokenId id) { return logits[static_cast<std::size_t>(id)]; };
    std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
      return value(a) > value(b) || (value(a) == value(b) && a < b);
    });
    double sum = 0;
    for (float logit : logits) sum += std::exp(static_cast<double>(logit));
    ids_.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
    for (TokenId id : ids_) values_.push_back(value(id));
    top_ = {values_, ids_, has_sum ? std::log(sum) : kNan,
            static_cast<std::int64_t>(logits.size())};
  }
  const TopLogits& logits() const { return top_; }

 private:
  std::vector<float> values_;  // [count]
  std::vector<TokenId> ids_;   // [count]
  TopLogits top_;              // Over them.
};

std::vector<SamplingOptions> ManyOptions() {
  return {{},
          {.repetition_penalty = 1.3, .presence_penalty = 0.5},
          {.temperature = 1},
          {.temperature = 0.5},
          {.temperature = 1.7},
          {.temperature = 1, .top_k = 4},
          {.temperature = 1.5, .top_k = 12},
          {.temperature = 0.7, .top_p = 0.8},
          {.temperature = 1.2, .top_p = 0.95},
          {.temperature = 1, .min_p = 0.2},
          {.temperature = 1, .min_p = 0.001},
          {.temperature = 0.8, .top_k = 6, .top_p = 0.9, .min_p = 0.05},
          {.temperature = 1, .repetition_penalty = 1.2, .frequency_penalty = 0.5},
          {.temperature = 1, .top_k = 3, .repetition_penalty = 1.2},
          {.temperature = 1, .repetition_penalty = 0.9},
          {.temperature = 1, .logit_bias = {{3, 9}}}};
}

struct Case {
  std::int64_t size;  // Of the row.
  Spread spread;      // Of its logits.
  std::size_t count;  // How many the engine gives.
  bool has_sum;       // Whether it gives the sum.
  int fewest;         // Percent of choices that they must suffice for.
};

class TopChoice : public testing::TestWithParam<Case> {};

TEST_P(TopChoice, IsTheChoiceFromTheWholeRow) {
  const auto [size, spread, top_count, has_sum, fewest] = GetParam();
  Sampler sampler(size);
  int asked = 0;
  int answered = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const std::vector<float> logits = MadeUpLogits(size, spread, seed);
    const Top top(logits, top_count, has_sum);
    TokenCounts counts(size, 10);
    const TokenId frequent = top.logits().token_ids[0];
    counts.AppendPrompt(std::vector<TokenId>{frequent, 2});
    counts.Push(top.logits().token_ids[top_count - 1]);
    for (const SamplingOptions& options : ManyOptions()) {
      ASSERT_TRUE(sampler.Read({logits.data(), DType::kFloat32, size}, options, &counts));
      for (std::int64_t position = 0; position < 100; ++position) {
        const GumbelNoise noise(seed, position, RandomStream::kChoose);
        const auto token = ChooseFromTop(top.logits(), options, &counts, noise);
        ++asked;
        if (!token) continue;
        ++answered;
        ASSERT_EQ(*token, sampler.Choose(noise));
      }
    }
  }
  EXPECT_GE(answered * 100, asked * fewest);
}

INSTANTIATE_TEST_SUITE_P(Rows, TopChoice,
                         testing::Values(Case{500, Spread::kPeaked, 8, true, 60},
                                         Case{500, Spread::kPeaked, 8, false, 60},
                                         Case{3000, Spread::kNormal, 8, true, 33},
                                         Case{3000, Spread::kNormal, 64, true, 40},
                                         Case{3000, Spread::kNormal, 64, false, 40},
                                         Case{3000, Spread::kFlat, 8, true, 28},
                                         Case{500, Spread::kTied, 8, true, 27},
                                         Case{200, Spread::kMasked, 8, true, 34},
                                         Case{8, Spread::kNormal, 8, true, 85},
                                         Case{20, Spread::kMasked, 20, false, 85},
                                         Case{300, Spread::kPeaked, 1, true, 15}),
                         [](const auto& info) { return "Row" + std::to_string(info.index); });

TEST(TopChoice, FilterWithinTheLargestAlwaysSuffices) {
  const std::vector<float> logits = MadeUpLogits(3000, Spread::kFlat, 0);
  const Top top(logits, 8, false);
  for (const SamplingOptions& options : {SamplingOptions{.temperature = 1, .top_k = 8},
                                         {.temperature = 1, .top_k = 1},
                                         {.temperature = 1, .top_k = 8, .top_p = 0.5},
                                         {.temperature = 1, .top_k = 5, .min_p = 0.9}}) {
    EXPECT_TRUE(ChooseFromTop(top.logits(), options, nullptr, kNoise));
  }
  EXPECT_FALSE(ChooseFromTop(top.logits(), {.temperature = 1, .top_k = 9}, nullptr, kNoise));
  EXPECT_FALSE(ChooseFromTop(top.logits(), {.temperature = 1}, nullptr, kNoise));
}

TEST(TopChoice, LeadThatNoNoiseMakesUpForSuffices) {
  std::vector<float> logits(100, 0.0F);
  logits[7] = 26;
  EXPECT_EQ(ChooseFromTop(Top(logits, 4, false).logits(), {.temperature = 1}, nullptr, kNoise), 7);
  logits[7] = 10;
  EXPECT_FALSE(ChooseFromTop(Top(logits, 4, false).logits(), {.temperature = 1}, nullptr, kNoise));
}

TEST(TopChoice, NothingIsChosenFromNothing) {
  EXPECT_FALSE(ChooseFromTop({}, {}, nullptr, kNoise));
  const std::vector<TokenId> ids = {0, 1};
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> values = {bad, 1};
    EXPECT_FALSE(ChooseFromTop({values, ids, kNan, 10}, {}, nullptr, kNoise));
  }
  const std::vector<float> none(2, -std::numeric_limits<float>::infinity());
  EXPECT_FALSE(ChooseFromTop({none, ids, kNan, 10}, {}, nullptr, kNoise));
  EXPECT_FALSE(ChooseFromTop({none, ids, kNan, 10}, {.temperature = 1}, nullptr, kNoise));
}

TEST(TopChoice, AllocatesNothing) {
  const Top top(MadeUpLogits(500, Spread::kPeaked, 0), 8, true);
  const SamplingOptions options = {.temperature = 1, .top_k = 5, .top_p = 0.9, .min_p = 0.1};
  const long before = NumAllocations();
  ChooseFromTop(top.logits(), options, nullptr, kNoise);
  EXPECT_EQ(NumAllocations(), before);
}

}  // namespace
}  // namespace ptgc
