#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "counted_new.h"
#include "reference_distribution.h"
#include "sampling/acceptance.h"
#include "sampling/random.h"
#include "sampling/target_choice.h"
#include "table_models.h"

namespace ptgc {
namespace {

constexpr AcceptanceRule kRules[] = {AcceptanceRule::kMatch, AcceptanceRule::kSpeculative,
                                     AcceptanceRule::kBlock, AcceptanceRule::kTypical,
                                     AcceptanceRule::kRelaxed};

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

// The same logits after every node.
class SameRow : public LogitsReader {
 public:
  explicit SameRow(std::vector<float> logits) : logits_(std::move(logits)) {}
  LogitsRow Row(int) override {
    return {logits_.data(), DType::kFloat32, static_cast<std::int64_t>(logits_.size())};
  }

 private:
  std::vector<float> logits_;
};

// At low temperatures a drafter gives all tokens but one no probability at all, and a tree has more
// children than that.
TEST(TargetChoice, SecondChildWithoutProbabilityIsNoReasonToAcceptIt) {
  SameRow logits({-50, 0, -50, -50});
  Proposal proposal(2);
  proposal.Add(0, 0);
  proposal.Add(0, 2);
  const std::vector<float> q = {1, 0, 0, 0};
  const std::vector<int> indices = {DraftProbabilities::kCertain, 0, 0};
  TargetChoice choice(4, 2);
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const SamplingOptions options = {.temperature = 0.1, .seed = seed};
    ProposedText text;
    text.proposal = &proposal;
    text.logits = &logits;
    text.options = &options;
    text.rule = AcceptanceRule::kSpeculative;
    text.draft_probabilities = {q, indices, 4};
    const Verdict verdict = choice.Judge(text);
    EXPECT_EQ(verdict.last, 0);
    EXPECT_EQ(verdict.bonus, 1);
  }
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
      drafted.Clear();
      std::vector<int> nodes = {0};
      for (int node = 1; node < tree.num_nodes(); ++node) {
        // Mostly what comes, now and then not; siblings differ.
        const std::size_t at = drafted.text.size() + static_cast<std::size_t>(tree.depth(node)) - 1;
        const int parent = nodes[static_cast<std::size_t>(tree.parent(node))];
        nodes.push_back(drafted.proposal.Add(parent, (expected[at] + (node * 7 + i) % 3) % kVocab));
      }
      TableReader reader(drafted.text, drafted.proposal);
      drafted.Accept(choice.Judge(drafted.Question(reader, options, AcceptanceRule::kMatch)));
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
  proposal.Append(2);
  const SamplingOptions options = {.temperature = 1};
  for (const AcceptanceRule rule : kRules) {
    const Verdict verdict = choice.Judge({.proposal = &proposal,
                                          .logits = &reader,
                                          .options = &options,
                                          .counts = nullptr,
                                          .position = 3,
                                          .rule = rule});
    EXPECT_EQ(verdict.last, 0);
    EXPECT_EQ(verdict.bonus, kNoToken);
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
  TokenCounts counts(3000, 100);
  Proposal proposal(4);
  // Other probabilities than the drafts are drawn from, so that some are rejected.
  const std::vector<float> q(4 * 3000, 0.5F);
  const std::vector<int> indices = {DraftProbabilities::kCertain, 0, 1, 2, 3};
  SamplingOptions options = {.temperature = 1.5, .top_p = 0.99, .presence_penalty = 0.1};
  const auto play = [&](AcceptanceRule rule, std::uint64_t seed, const TreeSpec& tree) {
    options.seed = seed;
    proposal.Clear();
    for (int node = 1; node < tree.num_nodes(); ++node) {
      const std::uint64_t token = (seed * 97 + static_cast<std::uint64_t>(node) * 31) % 3000;
      proposal.Add(tree.parent(node), static_cast<TokenId>(token));
    }
    ProposedText text = {.proposal = &proposal,
                         .logits = &reader,
                         .options = &options,
                         .counts = &counts,
                         .position = 0,
                         .rule = rule,
                         .typical = {.epsilon = 1e-4}};
    if (seed % 2 == 0) text.draft_probabilities = {q, indices, 3000};
    choice.Judge(text);
  };
  const TreeSpec chain = TreeSpec::Chain(4), tree({-1, 0, 0, 1, 1});
  const long before = NumAllocations();
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (const AcceptanceRule rule : kRules) {
      play(rule, seed, chain);
      play(rule, seed, tree);
    }
  }
  EXPECT_EQ(NumAllocations(), before);
}

// Drafts of a tree whose tokens are these, [node - 1].
Proposal Propose(const TreeSpec& tree, const Tokens& tokens) {
  Proposal proposal(tree.num_nodes() - 1);
  for (int node = 1; node < tree.num_nodes(); ++node) {
    proposal.Add(tree.parent(node), tokens[static_cast<std::size_t>(node) - 1]);
  }
  return proposal;
}

// Gives every node one of two rows of probabilities.
class RowsReader : public LogitsReader {
 public:
  RowsReader(const std::vector<double>& even, const std::vector<double>& odd) {
    for (double p : even) rows_[0].push_back(static_cast<float>(std::log(p)));
    for (double p : odd) rows_[1].push_back(static_cast<float>(std::log(p)));
  }
  LogitsRow Row(int node) override {
    const std::vector<float>& row = rows_[node % 2];
    return {row.data(), DType::kFloat32, static_cast<std::int64_t>(row.size())};
  }

 private:
  std::vector<float> rows_[2];  // Of nodes with even and with odd numbers.
};

struct LossyCase {
  const char* name;           // What is special.
  AcceptanceRule rule;        // typical or relaxed.
  TypicalAcceptance typical;  // Its parameters ...
  RelaxedAcceptance relaxed;  // ... or these.
  double temperature;         // 0 judges as 1 does.
  std::vector<int> parents;   // The tree.
  Tokens drafts;              // Its tokens.
  int last;                   // The node that must be accepted.
};

class LossyRule : public testing::TestWithParam<LossyCase> {};

// exp(-H) is 0.284 for the even row and 0.648 for the odd one.
TEST_P(LossyRule, AcceptsWhatIsLikelyEnough) {
  const LossyCase& given = GetParam();
  RowsReader reader({0.5, 0.25, 0.15, 0.08, 0.02}, {0.9, 0.06, 0.02, 0.01, 0.01});
  const Proposal proposal = Propose(TreeSpec(given.parents), given.drafts);
  TargetChoice choice(kVocab, 8);
  const SamplingOptions options = {.temperature = given.temperature, .seed = 4};
  const Verdict verdict = choice.Judge({.proposal = &proposal,
                                        .logits = &reader,
                                        .options = &options,
                                        .counts = nullptr,
                                        .position = 3,
                                        .rule = given.rule,
                                        .typical = given.typical,
                                        .relaxed = given.relaxed});
  EXPECT_EQ(verdict.last, given.last);
  if (given.temperature == 0) {
    EXPECT_EQ(verdict.bonus, 0);
  } else {
    EXPECT_NE(verdict.bonus, kNoToken);
  }
}

constexpr AcceptanceRule kTypical = AcceptanceRule::kTypical;
constexpr AcceptanceRule kRelaxed = AcceptanceRule::kRelaxed;

INSTANTIATE_TEST_SUITE_P(
    Rows, LossyRule,
    testing::Values(
        LossyCase{"Epsilon", kTypical, {0.09, 0.3}, {}, 0, {-1, 0}, {2}, 1},
        LossyCase{"BelowEpsilon", kTypical, {0.16, 0.9}, {}, 0, {-1, 0}, {2}, 0},
        LossyCase{"Delta", kTypical, {0.16, 0.45}, {}, 0, {-1, 0}, {2}, 1},
        LossyCase{"BelowDelta", kTypical, {0.16, 0.55}, {}, 0, {-1, 0}, {2}, 0},
        LossyCase{"LowerEntropyAsksForMore", kTypical, {0.9, 0.1}, {}, 0, {-1, 0, 1}, {3, 1}, 1},
        LossyCase{"Sampled", kTypical, {0.09, 0.3}, {}, 1, {-1, 0, 1, 2}, {2, 0, 1}, 3},
        LossyCase{"ColdRowsAreSharper", kTypical, {0.09, 0.3}, {}, 0.5, {-1, 0}, {2}, 0},
        LossyCase{"LongestPath", kTypical, {0.09, 0.3}, {}, 0, {-1, 0, 0, 2}, {0, 1, 1}, 3},
        LossyCase{"LikelierOfEquals", kTypical, {0.09, 0.3}, {}, 0, {-1, 0, 0}, {1, 0}, 2},
        LossyCase{"AmongTheFirst", kRelaxed, {}, {2, 1}, 0, {-1, 0, 1}, {1, 0}, 2},
        LossyCase{"NotAmongTheFirst", kRelaxed, {}, {1, 1}, 0, {-1, 0}, {1}, 0},
        LossyCase{"WithinTheMargin", kRelaxed, {}, {5, 0.7}, 0, {-1, 0}, {1}, 1},
        LossyCase{"BeyondTheMargin", kRelaxed, {}, {5, 0.69}, 0, {-1, 0}, {1}, 0},
        LossyCase{"MarginOfCoolRows", kRelaxed, {}, {5, 1}, 0.5, {-1, 0}, {1}, 0},
        LossyCase{"MarginOfHotRows", kRelaxed, {}, {5, 0.4}, 2, {-1, 0}, {1}, 1}),
    [](const testing::TestParamInfo<LossyCase>& info) { return std::string(info.param.name); });

TEST(LossyRule, WithoutDraftsChoosesAsPlainDecoding) {
  for (const double temperature : {0.0, 1.0}) {
    const SamplingOptions options = {.temperature = temperature, .seed = 7};
    DraftedText drafted(TreeSpec::Chain(0));
    TargetChoice choice(kVocab, 1);
    for (int i = 0; i < 20; ++i) {
      drafted.Clear();
      TableReader reader(drafted.text, drafted.proposal);
      drafted.Accept(choice.Judge(drafted.Question(reader, options, kTypical)));
    }
    EXPECT_EQ(drafted.text, PlainText(options, 20));
  }
}

}  // namespace
}  // namespace ptgc
