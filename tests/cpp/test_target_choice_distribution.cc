#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "chi_square.h"
#include "random.h"
#include "reference_distribution.h"
#include "residual.h"
#include "table_models.h"
#include "target_choice.h"

namespace ptgc {
namespace {

constexpr int kTexts = 50000;

// What is asked of a way of decoding: its answers to a proposal.
using Answer = std::function<std::span<const TokenId>(const ProposedText&)>;

struct Setting {
  const char* name;         // What is special.
  SamplingOptions options;  // How tokens are chosen.
  int num_drafts = 2;       // Of a round.
  bool is_certain = false;  // The drafter's distributions are not known.
};

// Writes texts with rounds until two tokens are there; counts the pairs, [kVocab * kVocab].
std::vector<long> CountPairs(const Setting& setting, AcceptanceRule rule, const Answer& answer) {
  std::vector<long> pairs(kVocab * kVocab);
  Sampler sampler(kVocab);
  for (int i = 0; i < kTexts; ++i) {
    SamplingOptions options = setting.options;
    options.seed = static_cast<std::uint64_t>(i);
    DraftedText drafted(TreeSpec::Chain(setting.num_drafts));
    while (drafted.text.size() < kPrompt.size() + 2) {
      const AcceptanceRule drafting = setting.is_certain ? AcceptanceRule::kMatch : rule;
      drafted.Draft(StrangeLogits, options, drafting, sampler);
      TableReader reader(drafted.text, drafted.proposal);
      ProposedText question = drafted.Question(reader, options, rule);
      if (setting.is_certain) question.draft_probabilities = {};
      drafted.Accept(answer(question));
    }
    ++pairs[static_cast<std::size_t>(drafted.text[3] * kVocab + drafted.text[4])];
  }
  return pairs;
}

// The exact probability of every pair under the target.
std::vector<double> PairProbabilities(const SamplingOptions& options) {
  std::vector<double> pairs;
  Tokens text = kPrompt;
  const std::vector<double> first =
      ReferenceDistribution(TargetLogits(text), options, {kPrompt, {}});
  for (TokenId token = 0; token < kVocab; ++token) {
    text.push_back(token);
    const std::vector<double> second =
        ReferenceDistribution(TargetLogits(text), options, {kPrompt, {token}});
    for (double probability : second) {
      pairs.push_back(first[static_cast<std::size_t>(token)] * probability);
    }
    text.pop_back();
  }
  return pairs;
}

double PairTest(const Setting& setting, AcceptanceRule rule, const Answer& answer) {
  return ChiSquareProbability(CountPairs(setting, rule, answer),
                              PairProbabilities(setting.options));
}

std::vector<Setting> Settings() {
  return {{"Plain", {.temperature = 1}, 2},
          {"OneDraft", {.temperature = 0.7}, 1},
          {"ManyDrafts", {.temperature = 1.3}, 4},
          {"Filters", {.temperature = 1.2, .top_k = 4, .top_p = 0.9, .min_p = 0.05}, 2},
          {"Penalties",
           {.temperature = 1,
            .repetition_penalty = 1.5,
            .presence_penalty = 0.7,
            .frequency_penalty = 0.4,
            .logit_bias = {{0, 0.5F}}},
           3},
          {"CertainDrafts", {.temperature = 1}, 2, true}};
}

class EmittedPairs : public testing::TestWithParam<std::tuple<std::size_t, AcceptanceRule>> {};

TEST_P(EmittedPairs, FollowTheTargetsDistribution) {
  const auto [index, rule] = GetParam();
  const Setting setting = Settings()[index];
  TargetChoice choice(kVocab, 8);
  const auto answer = [&](const ProposedText& text) { return choice.NextIds(text); };
  EXPECT_GT(PairTest(setting, rule, answer), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Settings, EmittedPairs,
                         testing::Combine(testing::Range(std::size_t{0}, Settings().size()),
                                          testing::Values(AcceptanceRule::kMatch,
                                                          AcceptanceRule::kSpeculative)),
                         [](const auto& info) {
                           return Settings()[std::get<0>(info.param)].name + std::string("_") +
                                  std::string(Name(std::get<1>(info.param)));
                         });

// Rules that are nearly right, for a chain without penalties.
class WrongRule {
 public:
  enum class Mistake { kResidualIsTarget, kAllAreKept, kNumbersAreShared, kResidualIsDrafter };
  explicit WrongRule(Mistake mistake) : mistake_(mistake) {}

  std::span<const TokenId> operator()(const ProposedText& text) {
    next_ids_.assign(static_cast<std::size_t>(text.proposal->size()) + 1, kNoToken);
    for (int node = 0; node <= text.proposal->size(); ++node) {
      sampler_.Read(text.logits->Row(node), *text.options, text.counts);
      TokenId& next = next_ids_[static_cast<std::size_t>(node)];
      next = node < text.proposal->size()
                 ? Judge(text, node)
                 : sampler_.Choose(Number(text, node, RandomStream::kChoose));
      if (node < text.proposal->size() && next != Draft(text, node)) break;
    }
    return next_ids_;
  }

 private:
  static TokenId Draft(const ProposedText& text, int node) {
    return text.proposal->tokens()[static_cast<std::size_t>(node)];
  }
  static double Number(const ProposedText& text, int node, RandomStream stream) {
    return Uniform(text.options->seed, text.position + node, stream);
  }
  TokenId Judge(const ProposedText& text, int node) {
    const TokenId draft = Draft(text, node);
    const std::span<const float> q =
        text.draft_probabilities.subspan(static_cast<std::size_t>(node) * kVocab, kVocab);
    const double accept = Number(text, node, RandomStream::kAccept);
    const bool keeps = mistake_ == Mistake::kAllAreKept ||
                       accept * q[static_cast<std::size_t>(draft)] < sampler_.Probability(draft);
    if (keeps) return draft;
    if (mistake_ == Mistake::kResidualIsTarget) {
      return sampler_.Choose(Number(text, node, RandomStream::kResidual));
    }
    sampler_.WriteProbabilities(residual_.probabilities());
    if (mistake_ == Mistake::kResidualIsDrafter) {
      std::copy(q.begin(), q.end(), residual_.probabilities().begin());
    } else {
      residual_.Subtract(q);
    }
    residual_.Sum();
    return residual_.Choose(accept);
  }

  Mistake mistake_;                // What is wrong with it.
  Sampler sampler_{kVocab};        // Reads the target's rows.
  Residual residual_{kVocab};      // As in the right rule.
  std::vector<TokenId> next_ids_;  // The answers.
};

TEST(EmittedPairs, WrongRulesFail) {
  using Mistake = WrongRule::Mistake;
  const Setting setting = {"Plain", {.temperature = 1}, 2};
  for (const Mistake mistake : {Mistake::kResidualIsTarget, Mistake::kAllAreKept,
                                Mistake::kNumbersAreShared, Mistake::kResidualIsDrafter}) {
    EXPECT_LT(PairTest(setting, AcceptanceRule::kSpeculative, WrongRule(mistake)), 1e-6)
        << static_cast<int>(mistake);
  }
}

// Share of the drafts of near models that are kept, where drafts are drawn as for one rule and
// judged by another.
double KeptShare(AcceptanceRule drafting, AcceptanceRule judging) {
  TargetChoice choice(kVocab, 8);
  Sampler sampler(kVocab);
  int kept = 0;
  constexpr int kRounds = 5000;
  for (int i = 0; i < kRounds; ++i) {
    const SamplingOptions options = {.temperature = 1, .seed = static_cast<std::uint64_t>(i)};
    DraftedText drafted(TreeSpec::Chain(1));
    drafted.Draft(NearLogits, options, drafting, sampler);
    TableReader reader(drafted.text, drafted.proposal);
    drafted.Accept(choice.NextIds(drafted.Question(reader, options, judging)));
    kept += static_cast<int>(drafted.acceptance.path().size());
  }
  return static_cast<double>(kept) / kRounds;
}

// Standard deviations are below 0.008.
TEST(KeptDrafts, AreAsManyAsTheDistributionsAllow) {
  const std::vector<double> p = ReferenceDistribution(TargetLogits(kPrompt), {.temperature = 1});
  const std::vector<double> q = ReferenceDistribution(NearLogits(kPrompt), {.temperature = 1});
  double overlap = 0;  // 1 - TV(p, q): what no rule exceeds.
  double product = 0;  // What independent draws have in common.
  for (std::size_t i = 0; i < p.size(); ++i) {
    overlap += std::min(p[i], q[i]);
    product += p[i] * q[i];
  }
  constexpr AcceptanceRule kMatch = AcceptanceRule::kMatch;
  constexpr AcceptanceRule kSpeculative = AcceptanceRule::kSpeculative;
  EXPECT_NEAR(KeptShare(kSpeculative, kSpeculative), overlap, 0.03);
  EXPECT_NEAR(KeptShare(kSpeculative, kMatch), product, 0.03);
  const double shared = KeptShare(kMatch, kMatch);
  EXPECT_GT(shared, product + 0.2);
  EXPECT_LT(shared, overlap + 0.03);
}

}  // namespace
}  // namespace ptgc
