#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "chi_square.h"
#include "reference_distribution.h"
#include "sampling/random.h"
#include "sampling/residual.h"
#include "sampling/target_choice.h"
#include "table_models.h"

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
                 : sampler_.Choose(Noise(text, node, RandomStream::kChoose));
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
  static GumbelNoise Noise(const ProposedText& text, int node, RandomStream stream) {
    return {text.options->seed, text.position + node, stream};
  }
  TokenId Judge(const ProposedText& text, int node) {
    const TokenId draft = Draft(text, node);
    const std::span<const float> q = text.draft_probabilities.Of(node);
    const double accept = Number(text, node, RandomStream::kAccept);
    const bool keeps = mistake_ == Mistake::kAllAreKept ||
                       accept * q[static_cast<std::size_t>(draft)] < sampler_.Probability(draft);
    if (keeps) return draft;
    if (mistake_ == Mistake::kResidualIsTarget) {
      return sampler_.Choose(Noise(text, node, RandomStream::kResidual));
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

// What two distributions have in common.
struct Overlap {
  double most = 0;         // 1 - TV(p, q): the probability of equal tokens that nothing exceeds.
  double independent = 0;  // The one of independent draws.
  // What shared Gumbel noise reaches at least (Daliri et al., arXiv 2408.07978, theorem 2).
  double coupled() const { return most / (2 - most); }
};

Overlap OverlapOf(const std::vector<double>& p, const std::vector<double>& q) {
  Overlap overlap;
  for (std::size_t i = 0; i < p.size(); ++i) {
    overlap.most += std::min(p[i], q[i]);
    overlap.independent += p[i] * q[i];
  }
  return overlap;
}

// Standard deviations are below 0.008.
TEST(KeptDrafts, AreAsManyAsTheDistributionsAllow) {
  const Overlap overlap =
      OverlapOf(ReferenceDistribution(TargetLogits(kPrompt), {.temperature = 1}),
                ReferenceDistribution(NearLogits(kPrompt), {.temperature = 1}));
  constexpr AcceptanceRule kMatch = AcceptanceRule::kMatch;
  constexpr AcceptanceRule kSpeculative = AcceptanceRule::kSpeculative;
  EXPECT_NEAR(KeptShare(kSpeculative, kSpeculative), overlap.most, 0.03);
  EXPECT_NEAR(KeptShare(kSpeculative, kMatch), overlap.independent, 0.03);
  const double shared = KeptShare(kMatch, kMatch);
  EXPECT_GT(shared, overlap.coupled() - 0.02);
  EXPECT_LT(shared, overlap.most + 0.03);
}

struct Nearness {
  double noise;        // Standard deviation of what the drafter's logits differ by.
  double temperature;  // Of both.
  double floor;        // Share of 1 - TV that must be kept: 0.02 below what was measured.
};

class CoupledDrafts : public testing::TestWithParam<Nearness> {};

// Rows of many tokens, none of them likely: the order of the tokens differs everywhere.
TEST_P(CoupledDrafts, AreKeptNearlyAsOftenAsIsPossible) {
  constexpr std::int64_t kSize = 2000;
  constexpr int kRows = 20;
  constexpr int kPositions = 250;
  const auto [noise, temperature, floor] = GetParam();
  const SamplingOptions options = {.temperature = temperature, .seed = 5};
  Sampler sampler(kSize);
  double most = 0;
  double coupled = 0;
  int kept = 0;
  for (std::uint64_t row = 0; row < kRows; ++row) {
    const std::vector<float> target = MadeUpLogits(kSize, Spread::kNormal, row);
    const std::vector<float> other = MadeUpLogits(kSize, Spread::kNormal, 1000 + row);
    std::vector<float> drafter = target;
    for (std::size_t i = 0; i < drafter.size(); ++i) {
      drafter[i] += static_cast<float>(noise / 2.5) * other[i];
    }
    const Overlap overlap =
        OverlapOf(ReferenceDistribution(target, options), ReferenceDistribution(drafter, options));
    most += overlap.most / kRows;
    coupled += overlap.coupled() / kRows;
    for (int i = 0; i < kPositions; ++i) {
      const auto choose = [&](const std::vector<float>& logits) {
        return ChooseDraft(sampler, {logits.data(), DType::kFloat32, kSize}, options, nullptr,
                           static_cast<std::int64_t>(row) * kPositions + i, AcceptanceRule::kMatch,
                           {});
      };
      kept += choose(target) == choose(drafter) ? 1 : 0;
    }
  }
  const double share = static_cast<double>(kept) / (kRows * kPositions);
  RecordProperty("kept", std::to_string(share));
  RecordProperty("most", std::to_string(most));
  EXPECT_GT(share, floor * most);
  EXPECT_GT(share, coupled - 0.02);
  EXPECT_LT(share, most + 0.02);
}

INSTANTIATE_TEST_SUITE_P(Noises, CoupledDrafts,
                         testing::Values(Nearness{0, 1, 0.9999}, Nearness{0.1, 1, 0.97},
                                         Nearness{0.3, 1, 0.94}, Nearness{0.3, 0.7, 0.94},
                                         Nearness{1, 1, 0.86}),
                         [](const auto& info) { return "Noise" + std::to_string(info.index); });

}  // namespace
}  // namespace ptgc
