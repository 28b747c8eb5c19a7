#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "sampling/penalties.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;
using Logits = std::vector<float>;

// Token 1 in the prompt, 2 generated twice, 3 in both.
TokenCounts Counted() {
  TokenCounts counts(5, 10);
  counts.AppendPrompt(Tokens{1, 3});
  for (TokenId id : {2, 2, 3}) counts.Push(id);
  return counts;
}

Logits Adjust(const SamplingOptions& options, Logits logits) {
  const TokenCounts counts = Counted();
  AdjustLogits(options, &counts, logits);
  return logits;
}

TEST(Penalties, RepetitionConcernsPromptAndText) {
  EXPECT_EQ(Adjust({.repetition_penalty = 2}, {4, 4, -4, 1, 4}), (Logits{4, 2, -8, 0.5F, 4}));
}

TEST(Penalties, PresenceConcernsGeneratedTokensOnce) {
  EXPECT_EQ(Adjust({.presence_penalty = 0.5}, {4, 4, 4, 4, 4}), (Logits{4, 4, 3.5F, 3.5F, 4}));
}

TEST(Penalties, FrequencyConcernsEveryGeneratedOccurrence) {
  EXPECT_EQ(Adjust({.frequency_penalty = 0.5}, {4, 4, 4, 4, 4}), (Logits{4, 4, 3, 3.5F, 4}));
}

TEST(Penalties, BiasComesFirstThenRepetitionThenTheOthers) {
  EXPECT_EQ(Adjust({.repetition_penalty = 2,
                    .presence_penalty = 1,
                    .frequency_penalty = 0.25,
                    .logit_bias = {{2, 3}, {4, -1}}},
                   {4, 4, -1, 4, 4}),
            (Logits{4, 2, -0.5F, 0.75F, 3}));
}

TEST(Penalties, BiasNeedsNoCounts) {
  Logits logits = {1, 2};
  AdjustLogits({.logit_bias = {{1, -std::numeric_limits<float>::infinity()}}}, nullptr, logits);
  EXPECT_EQ(logits, (Logits{1, -std::numeric_limits<float>::infinity()}));
}

}  // namespace
}  // namespace ptgc
