#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "counted_new.h"
#include "reference_distribution.h"
#include "sampling/acceptance.h"
#include "sampling/random.h"
#include "sampling/target_choice.h"
#include "table_models.h"

namespace ptgc {
namespace {

// The tokens that plain decoding writes.
Tokens PlainText(const SamplingOptions& options, int count) {
  Sampler sampler(kVocab);
  TokenCounts counts(kVocab, 200);
  counts.AppendPrompt(kPrompt);
  Tokens text = kPrompt;
  for (int i = 0; i < count; ++i) {
    const std::span<const float> logits = TargetLogits(text);
    sampler.Read({logits.data(), DType::kFloat32, kVocab}, options, &counts);
    text.push_back(sampler.Choose(
        GumbelNoise(options.seed, static_cast<std::int64_t>(text.size()), RandomStream::kChoose)));
    counts.Push(text.back());
  }
  return text;
}

class MatchedTree : public testing::TestWithParam<std::vector<int>> {};

TEST_P(MatchedTree, WritesTheTextOfPlainDecoding) {
  const TreeSpec tree(GetParam());
  const std::vector<SamplingOptions> all = {{.temperature = 1, .seed = 7},
                                            {.temperature = 1,
                                             .top_p = 0.8,
                                             .repetition_penalty = 1.4,
                                             .frequency_penalty = 1,
                                             .seed = 8},
                                            {.repetition_penalty = 1.4, .presence_penalty = 1}};
  for (const SamplingOptions& options : all) {
    const Tokens expected = PlainText(options, 80);
    TargetChoice choice(kVocab, 8);
    DraftedText drafted(tree);
    int kept = 0;
    for (int i = 0; drafted.text.size() < 60; ++i) {
      drafted.proposal.Clear();
      std::vector<int> nodes = {0};
      for (int node = 1; node < tree.num_nodes(); ++node) {
        // Mostly what comes, now and then not; siblings differ.
        const std::size_t at = drafted.text.size() + static_cast<std::size_t>(tree.depth(node)) - 1;
        const int parent = nodes[static_cast<std::size_t>(tree.parent(node))];
        nodes.push_back(drafted.proposal.Add(parent, (expected[at] + (node * 7 + i) % 3) % kVocab));
      }
      TableReader reader(drafted.text, drafted.proposal);
      drafted.Accept(choice.NextIds(drafted.Question(reader, options, AcceptanceRule::kMatch)));
      EXPECT_EQ(reader.rows_read(), static_cast<int>(drafted.acceptance.path().size()) + 1);
      kept += static_cast<int>(drafted.acceptance.path().size());
    }
    EXPECT_TRUE(std::equal(drafted.text.begin(), drafted.text.end(), expected.begin()));
    EXPECT_EQ(drafted.counts.length(), static_cast<int>(drafted.text.size()));
    EXPECT_GE(kept, 5 * std::min(tree.num_nodes() - 1, 1));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, MatchedTree,
                         testing::Values(std::vector<int>{-1}, std::vector<int>{-1, 0, 1, 2},
                                         std::vector<int>{-1, 0, 0, 1, 1, 2, 3},
                                         std::vector<int>{-1, 0, 0, 0, 2}),
                         [](const auto& info) { return "Tree" + std::to_string(info.index); });

TEST(TargetChoice, RowWithoutAChoiceEndsInNoToken) {
  class NanReader : public LogitsReader {
   public:
    LogitsRow Row(int) override { return {row_.data(), DType::kFloat32, kVocab}; }

   private:
    std::vector<float> row_ = std::vector<float>(kVocab, std::numeric_limits<float>::quiet_NaN());
  };
  NanReader reader;
  TargetChoice choice(kVocab, 2);
  Proposal proposal(2);
  proposal.Append(1);
  Acceptance acceptance(2);
  const SamplingOptions options = {.temperature = 1};
  for (const AcceptanceRule rule : {AcceptanceRule::kMatch, AcceptanceRule::kSpeculative}) {
    acceptance.Keep(proposal, choice.NextIds({.proposal = &proposal,
                                              .logits = &reader,
                                              .options = &options,
                                              .counts = nullptr,
                                              .position = 3,
                                              .rule = rule,
                                              .draft_probabilities = {}}));
    EXPECT_TRUE(acceptance.path().empty());
    EXPECT_EQ(acceptance.bonus(), kNoToken);
  }
}

TEST(TargetChoice, AllocatesNothingOnceMade) {
  class FixedReader : public LogitsReader {
   public:
    LogitsRow Row(int) override { return {row_.data(), DType::kFloat32, 3000}; }

   private:
    std::vector<float> row_ = MadeUpLogits(3000, Spread::kNormal, 1);
  };
  FixedReader reader;
  TargetChoice choice(3000, 4);
  Sampler sampler(3000);
  TokenCounts counts(3000, 100);
  Proposal proposal(4);
  std::vector<float> q(4 * 3000);
  SamplingOptions options = {.temperature = 1.5, .top_p = 0.99, .presence_penalty = 0.1};
  const auto play = [&](AcceptanceRule rule, std::uint64_t seed) {
    options.seed = seed;
    proposal.Clear();
    for (std::size_t i = 0; i < 4; ++i) {
      proposal.Append(ChooseDraft(sampler, reader.Row(0), options, &counts,
                                  static_cast<std::int64_t>(i), rule,
                                  std::span<float>(q).subspan(i * 3000, 3000)));
    }
    // Other probabilities than the drafts were drawn from, so that some are refused.
    std::fill(q.begin(), q.end(), 0.5F);
    choice.NextIds({.proposal = &proposal,
                    .logits = &reader,
                    .options = &options,
                    .counts = &counts,
                    .position = 0,
                    .rule = rule,
                    .draft_probabilities =
                        seed % 2 == 0 ? DraftProbabilities{q, 3000} : DraftProbabilities()});
  };
  const long before = NumAllocations();
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    play(AcceptanceRule::kMatch, seed);
    play(AcceptanceRule::kSpeculative, seed);
  }
  EXPECT_EQ(NumAllocations(), before);
}

}  // namespace
}  // namespace ptgc
