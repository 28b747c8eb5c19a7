#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "base/error.h"
#include "drafters/dynamic_tree.h"
#include "drafters/likely_tokens.h"
#include "sampling/row_sampling.h"
#include "sampling/target_choice.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

// The path of a node, from the root's child down.
Tokens PathOf(const Proposal& proposal, int node) {
  Tokens path;
  for (; node > 0; node = proposal.tree().parent(node)) {
    path.insert(path.begin(), proposal.token(node));
  }
  return path;
}

TEST(DynamicTree, OffersTheLikeliestPathsFirst) {
  std::mt19937 chance(1);
  std::uniform_int_distribution<int> levels(1, 6);
  for (int trial = 0; trial < 200; ++trial) {
    DynamicTree tree(9, 3, 13);
    std::map<Tokens, double> all;
    std::vector<int> parents = {DynamicTree::kRoot};
    std::map<int, Tokens> paths = {{DynamicTree::kRoot, {}}};
    int next = 0;
    for (int depth = 0; depth < 3; ++depth) {
      for (const int parent : parents) {
        std::vector<LikelyToken> children;
        const double above = paths[parent].empty() ? 0 : all[paths[parent]];
        for (TokenId token = 0; token < 3; ++token) {
          // Few values, and sometimes certainty, so that there are ties.
          children.push_back({token, levels(chance) == 1 ? 0 : -0.5 * levels(chance)});
          Tokens path = paths[parent];
          path.push_back(token);
          all[path] = above + children.back().log_probability;
          paths[next++] = path;
        }
        tree.Add(parent, children);
      }
      const std::span<const int> newest = tree.Newest(4);
      parents.assign(newest.begin(), newest.end());
      for (std::size_t i = 1; i < parents.size(); ++i) {
        EXPECT_GE(all[paths[parents[i - 1]]], all[paths[parents[i]]]);
      }
    }
    Proposal proposal(9);
    tree.Write(9, proposal);
    ASSERT_EQ(proposal.size(), 9);
    ASSERT_EQ(tree.gains().size(), 9U);
    std::vector<double> sorted;
    for (const auto& [path, value] : all) sorted.push_back(value);
    std::sort(sorted.rbegin(), sorted.rend());
    for (int node = 1; node <= 9; ++node) {
      const double value = all.at(PathOf(proposal, node));
      EXPECT_DOUBLE_EQ(value, sorted[static_cast<std::size_t>(node) - 1]);
      EXPECT_DOUBLE_EQ(tree.gains()[static_cast<std::size_t>(node) - 1], std::exp(value));
    }
  }
}

TEST(DynamicTree, KnowsWhichCandidatesWereRead) {
  DynamicTree tree(3, 2, 3);
  const std::vector<LikelyToken> children = {{7, -0.1}, {8, -2}};
  tree.Add(DynamicTree::kRoot, children);
  const int read = tree.Newest(1)[0];
  EXPECT_EQ(tree.token(read), 7);
  EXPECT_EQ(tree.NodeAbove(read), 0);
  tree.set_node(read, 1);
  tree.Add(read, children);
  EXPECT_EQ(tree.NodeAbove(tree.Newest(2)[1]), 1);
  Proposal proposal(3);
  tree.Write(2, proposal);  // 7, and 7 behind it.
  EXPECT_EQ(tree.NodeOf(1), 1);
  EXPECT_EQ(tree.NodeOf(2), 0);
  tree.Clear();
  EXPECT_TRUE(tree.gains().empty());
}

// A row of a text's logits, and how tokens are chosen.
struct Question {
  explicit Question(const SamplingOptions& options) {
    sampling.Begin(options, text, 8, 16);
    row.text = text;
    row.sampling = &sampling;
  }
  std::span<const LikelyToken> Ask(LikelyTokens& likely, int node = 0, int depth = 0) {
    return likely.Read(row, path, node, depth, {logits.data(), DType::kFloat32, 8});
  }

  Tokens text = {1, 4, 2};
  std::vector<float> logits = {0.5F, 3, -1, 2.5F, 0, 1, 2.5F, -4};
  Proposal path{3};
  RowSampling sampling;
  DraftRow row;
};

Tokens IdsOf(std::span<const LikelyToken> tokens) {
  Tokens ids;
  for (const LikelyToken& token : tokens) ids.push_back(token.token);
  return ids;
}

TEST(LikelyTokens, AreThoseOfTheDistribution) {
  LikelyTokens likely(AcceptanceRule::kMatch, 4, 8);
  Question greedy({});
  double total = 0;
  for (const float logit : greedy.logits) total += std::exp(logit);
  const auto found = greedy.Ask(likely);
  EXPECT_EQ(IdsOf(found), (Tokens{1, 3, 6, 5}));  // Of equals the lower id.
  EXPECT_NEAR(found[0].log_probability, 3 - std::log(total), 1e-5);
  EXPECT_NEAR(found[3].log_probability, 1 - std::log(total), 1e-5);
}

TEST(LikelyTokens, AreFewerWhereFiltersOrTheVocabularyLeaveFewer) {
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 2;
  LikelyTokens likely(AcceptanceRule::kSpeculative, 4, 8);
  Question filtered(options);
  const auto found = filtered.Ask(likely);
  EXPECT_EQ(IdsOf(found), (Tokens{1, 3}));
  EXPECT_NEAR(std::exp(found[0].log_probability) + std::exp(found[1].log_probability), 1, 1e-6);
  LikelyTokens smaller(AcceptanceRule::kMatch, 4, 3);
  Question greedy({});
  EXPECT_EQ(IdsOf(greedy.Ask(smaller)), (Tokens{1, 0, 2}));
}

TEST(LikelyTokens, CountTheDraftsBefore) {
  SamplingOptions options;
  options.repetition_penalty = 6;
  LikelyTokens likely(AcceptanceRule::kMatch, 2, 8);
  Question question(options);
  EXPECT_EQ(IdsOf(question.Ask(likely)), (Tokens{3, 6}));  // The text has 1.
  question.path.Append(3);
  EXPECT_EQ(IdsOf(question.Ask(likely, 1, 1)), (Tokens{6, 5}));
  EXPECT_EQ(IdsOf(question.Ask(likely)), (Tokens{3, 6}));
}

// If the drafter's logits are the target's, the target takes the first token.
TEST(LikelyTokens, ComeInTheOrderOfTheTargetsNoise) {
  SamplingOptions options;
  options.temperature = 0.9;
  Sampler target(8);
  LikelyTokens likely(AcceptanceRule::kMatch, 3, 8);
  int others = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    options.seed = seed;
    Question question(options);
    ASSERT_TRUE(target.Read({question.logits.data(), DType::kFloat32, 8}, options, nullptr));
    const GumbelNoise noise = DraftNoise(options, 3 + 2, AcceptanceRule::kMatch, 2);
    const auto found = question.Ask(likely, 0, 2);
    ASSERT_EQ(found.size(), 3U);
    EXPECT_EQ(found[0].token, target.Choose(noise));
    EXPECT_GE(found[0].log_probability, found[1].log_probability);
    EXPECT_LE(found[0].log_probability, 0);
    others += found[0].token != 1 ? 1 : 0;
  }
  EXPECT_GT(others, 10);
}

TEST(LikelyTokens, RefuseLogitsThatAreNotNumbers) {
  LikelyTokens likely(AcceptanceRule::kMatch, 3, 8);
  Question question({});
  question.logits[4] = std::nanf("");
  EXPECT_THROW(question.Ask(likely), Error);
}

}  // namespace
}  // namespace ptgc
