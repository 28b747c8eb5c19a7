#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "base/error.h"
#include "sampling/sampling_options.h"

namespace ptgc {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::string Problem(const SamplingOptions& options) {
  try {
    options.Check(100);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_FALSE(error.action().empty());
    return error.message();
  }
  return "";
}

TEST(SamplingOptions, DefaultsAreGreedyAndPlain) {
  EXPECT_EQ(Problem({}), "");
  EXPECT_TRUE(SamplingOptions().is_argmax());
  EXPECT_FALSE(SamplingOptions{.temperature = 1}.is_argmax());
  EXPECT_FALSE(SamplingOptions{.presence_penalty = 1}.is_argmax());
  EXPECT_FALSE((SamplingOptions{.logit_bias = {{3, 1}}}.is_argmax()));
}

TEST(SamplingOptions, LimitsAreAllowed) {
  EXPECT_EQ(Problem({.temperature = 1e-3,
                     .top_k = 1,
                     .top_p = 1e-9,
                     .min_p = 1,
                     .repetition_penalty = 100,
                     .presence_penalty = -2,
                     .frequency_penalty = 2,
                     .logit_bias = {{0, -kInfinity}, {99, 100}},
                     .seed = ~0ULL}),
            "");
}

TEST(SamplingOptions, EveryProblemIsNamed) {
  const std::string problem = Problem({.temperature = -1,
                                       .top_k = -2,
                                       .top_p = 0,
                                       .min_p = 1.5,
                                       .repetition_penalty = 0,
                                       .presence_penalty = 3,
                                       .frequency_penalty = -3,
                                       .logit_bias = {{100, 0}, {5, kInfinity}, {5, 1}}});
  for (const char* part :
       {"temperature is -1; it must be 0 for greedy", "top_k is -2;", "top_p is 0;",
        "min_p is 1.5;", "repetition_penalty is 0;", "presence_penalty is 3;",
        "frequency_penalty is -3;", "token 100, which is not in the vocabulary of 100 entries",
        "logit_bias of token 5 is inf;", "token 5 more than once"}) {
    EXPECT_NE(problem.find(part), std::string::npos) << part << "\n" << problem;
  }
}

TEST(SamplingOptions, NanIsRefusedEverywhere) {
  EXPECT_NE(Problem({.temperature = kNan}), "");
  EXPECT_NE(Problem({.top_p = kNan}), "");
  EXPECT_NE(Problem({.min_p = kNan}), "");
  EXPECT_NE(Problem({.repetition_penalty = kNan}), "");
  EXPECT_NE(Problem({.presence_penalty = kNan}), "");
  EXPECT_NE(Problem({.frequency_penalty = kNan}), "");
  EXPECT_NE(Problem({.logit_bias = {{1, static_cast<float>(kNan)}}}), "");
  EXPECT_NE(Problem({.temperature = 1e-4}), "");
}

}  // namespace
}  // namespace ptgc
