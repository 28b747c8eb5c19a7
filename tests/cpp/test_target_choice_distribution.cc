#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "chi_square.h"
#include "reference_distribution.h"
#include "sampling/random.h"
#include "sampling/target_choice.h"
#include "table_models.h"

namespace ptgc {
namespace {

constexpr int kTexts = 20000;

// A way to judge proposals.
using Judge = std::function<Verdict(const ProposedText&)>;

// Where a draft that no model makes is added: a certain one, among those that are drawn.
enum class Certain { kNone, kAll, kBefore, kAfter };

struct Setting {
  const char* name;                  // What is special.
  SamplingOptions options;           // How tokens are chosen.
  std::vector<int> parents;          // The tree of a round's drafts.
  Certain certain = Certain::kNone;  // Drafts without a distribution.
};

// Adds a child of the root that only depends on the text, if the text has it at this place.
void AddCertain(DraftedText& drafted, const Setting& setting, Certain place) {
  if (setting.certain == place) drafted.proposal.Add(0, (drafted.text.back() + 1) % kVocab);
}

void Propose(DraftedText& drafted, const Setting& setting, const SamplingOptions& options,
             AcceptanceRule rule, Sampler& sampler) {
  drafted.Clear();
  AddCertain(drafted, setting, Certain::kBefore);
  if (setting.certain == Certain::kAll) {
    drafted.Draft(StrangeLogits, {}, AcceptanceRule::kMatch, sampler);
  } else {
    drafted.Draft(StrangeLogits, options, rule, sampler);
  }
  AddCertain(drafted, setting, Certain::kAfter);
}

// Writes texts with rounds until two tokens are there; counts the pairs, [kVocab * kVocab].
std::vector<long> CountPairs(const Setting& setting, AcceptanceRule rule, const Judge& judge) {
  std::vector<long> pairs(kVocab * kVocab);
  Sampler sampler(kVocab);
  for (int i = 0; i < kTexts; ++i) {
    SamplingOptions options = setting.options;
    options.seed = static_cast<std::uint64_t>(i);
    DraftedText drafted(TreeSpec(setting.parents), /*num_others=*/1);
    while (drafted.text.size() < kPrompt.size() + 2) {
      Propose(drafted, setting, options, rule, sampler);
      TableReader reader(drafted.text, drafted.proposal);
      drafted.Accept(judge(drafted.Question(reader, options, rule)));
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

double PairTest(const Setting& setting, AcceptanceRule rule, const Judge& judge) {
  return ChiSquareProbability(CountPairs(setting, rule, judge), PairProbabilities(setting.options));
}

const std::vector<int> kOneDraft = {-1, 0};
const std::vector<int> kChain = {-1, 0, 1};
const std::vector<int> kLongChain = {-1, 0, 1, 2, 3};
const std::vector<int> kTree = {-1, 0, 0, 0, 1, 1, 2};
const SamplingOptions kPenalties = {.temperature = 1,
                                    .repetition_penalty = 1.5,
                                    .presence_penalty = 0.7,
                                    .frequency_penalty = 0.4,
                                    .logit_bias = {{0, 0.5F}}};
const SamplingOptions kFilters = {.temperature = 1.2, .top_k = 4, .top_p = 0.9, .min_p = 0.05};

const std::vector<Setting>& Settings() {
  static const std::vector<Setting> settings = {
      {"Plain", {.temperature = 1}, kChain},
      {"OneDraft", {.temperature = 0.7}, kOneDraft},
      {"ManyDrafts", {.temperature = 1.3}, kLongChain},
      {"Filters", kFilters, kChain},
      {"Penalties", kPenalties, {-1, 0, 1, 2}},
      {"CertainDrafts", {.temperature = 1}, kLongChain, Certain::kAll},
      {"Tree", {.temperature = 1}, kTree},
      {"ColdTree", {.temperature = 0.7}, {-1, 0, 0, 1, 2, 3, 3}},
      {"AllTokens", {.temperature = 1.3}, {-1, 0, 0, 0, 0, 0}},
      {"TreeWithFilters", kFilters, kTree},
      {"TreeWithPenalties", kPenalties, kTree},
      {"CertainTree", {.temperature = 1}, kTree, Certain::kAll},
      {"CertainBefore", {.temperature = 1}, kTree, Certain::kBefore},
      {"CertainAfter", {.temperature = 1}, kTree, Certain::kAfter}};
  return settings;
}

class EmittedPairs : public testing::TestWithParam<std::tuple<std::size_t, AcceptanceRule>> {};

TEST_P(EmittedPairs, FollowTheTargetsDistribution) {
  const auto [index, rule] = GetParam();
  TargetChoice choice(kVocab, 8);
  const auto judge = [&](const ProposedText& text) { return choice.Judge(text); };
  const double probability = PairTest(Settings()[index], rule, judge);
  RecordProperty("p", std::to_string(probability));
  EXPECT_GT(probability, 1e-3);
}

std::string NameOf(const testing::TestParamInfo<EmittedPairs::ParamType>& info) {
  return Settings()[std::get<0>(info.param)].name;
}

// Whatever the tree, `match` writes the text of plain decoding, and `block` judges trees as
// `speculative` does.
INSTANTIATE_TEST_SUITE_P(Match, EmittedPairs,
                         testing::Combine(testing::Range(std::size_t{0}, std::size_t{7}),
                                          testing::Values(AcceptanceRule::kMatch)),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Speculative, EmittedPairs,
                         testing::Combine(testing::Range(std::size_t{0}, Settings().size()),
                                          testing::Values(AcceptanceRule::kSpeculative)),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Block, EmittedPairs,
                         testing::Combine(testing::Range(std::size_t{0}, std::size_t{7}),
                                          testing::Values(AcceptanceRule::kBlock)),
                         NameOf);

// Rules that are nearly right, in plain float64, for texts without penalties.
class WrongRule {
 public:
  enum class Mistake {
    kNone,                // Is a second opinion.
    kResidualIsTarget,    // Rejected drafts are replaced by tokens of p.
    kAllAreKept,          // Nothing is rejected.
    kNumbersAreShared,    // One number rejects and chooses the replacement.
    kResidualIsDrafter,   // Rejected drafts are replaced by tokens of q.
    kOtherNodesResidual,  // The residual is made with what another node's children were drawn from.
    kNotRenormalised,     // q keeps its scale after a rejected child.
    kFirstChildAgain,     // q keeps rejected children.
  };
  explicit WrongRule(Mistake mistake) : mistake_(mistake) {}

  Verdict operator()(const ProposedText& text) {
    int node = 0;
    while (true) {
      const Verdict verdict = Try(text, node);
      if (verdict.last == node) return verdict;
      node = verdict.last;
    }
  }

 private:
  std::vector<double> Q(const ProposedText& text, int child) const {
    const std::span<const float> q = text.draft_probabilities.Of(child);
    return {q.begin(), q.end()};
  }
  static double Sum(const std::vector<double>& masses) {
    return std::accumulate(masses.begin(), masses.end(), 0.0);
  }
  static void Normalise(std::vector<double>& masses) {
    const double sum = Sum(masses);
    for (double& mass : masses) mass /= sum;
  }
  static TokenId Draw(const std::vector<double>& masses, double uniform) {
    double left = uniform * Sum(masses);
    TokenId token = 0;
    while (token + 1 < kVocab && left >= masses[static_cast<std::size_t>(token)]) {
      left -= masses[static_cast<std::size_t>(token++)];
    }
    return token;
  }

  Verdict Try(const ProposedText& text, int node) {
    const TreeSpec& tree = text.proposal->tree();
    const std::int64_t position = text.position + tree.depth(node);
    const std::uint64_t seed = text.options->seed;
    sampler_.Read(text.logits->Row(node), *text.options, text.counts);
    std::vector<float> row(kVocab);
    sampler_.WriteProbabilities(row);
    std::vector<double> p(row.begin(), row.end()), q;
    double uniform = 0;
    for (int child = node + 1; child <= text.proposal->size(); ++child) {
      if (tree.parent(child) != node) continue;
      const std::size_t draft = static_cast<std::size_t>(text.proposal->token(child));
      if (q.empty()) q = Q(text, child);
      const int depth = tree.depth(node), rank = tree.rank(child);
      uniform = Uniform(seed, position, RandomStream::kAccept, DrawOf(text.rule, depth, rank));
      if (mistake_ == Mistake::kAllAreKept || uniform * q[draft] < p[draft]) return {child, 0};
      std::vector<double> subtracted = q;
      if (mistake_ == Mistake::kOtherNodesResidual) subtracted = Q(text, text.proposal->size());
      if (mistake_ == Mistake::kResidualIsDrafter) p = q;
      const bool keeps_p =
          mistake_ == Mistake::kResidualIsDrafter || mistake_ == Mistake::kResidualIsTarget;
      for (std::size_t i = 0; i < p.size() && !keeps_p; ++i)
        p[i] = std::max(p[i] - subtracted[i], 0.0);
      Normalise(p);
      if (mistake_ == Mistake::kFirstChildAgain) continue;
      q[draft] = 0;
      if (mistake_ != Mistake::kNotRenormalised) Normalise(q);
    }
    if (q.empty()) return {node, sampler_.Choose({seed, position, RandomStream::kChoose})};
    const bool shares = mistake_ == Mistake::kNumbersAreShared;
    return {node, Draw(p, shares ? uniform : Uniform(seed, position, RandomStream::kResidual))};
  }

  Mistake mistake_;          // What is wrong with it.
  Sampler sampler_{kVocab};  // Reads the target's rows.
};

TEST(EmittedPairs, WrongRulesFail) {
  using Mistake = WrongRule::Mistake;
  constexpr AcceptanceRule kRule = AcceptanceRule::kSpeculative;
  const Setting chain = {"Plain", {.temperature = 1}, kChain};
  const Setting tree = {"Tree", {.temperature = 1}, kTree};
  EXPECT_GT(PairTest(chain, kRule, WrongRule(Mistake::kNone)), 1e-3);
  EXPECT_GT(PairTest(tree, kRule, WrongRule(Mistake::kNone)), 1e-3);
  for (const Mistake mistake : {Mistake::kResidualIsTarget, Mistake::kAllAreKept,
                                Mistake::kNumbersAreShared, Mistake::kResidualIsDrafter}) {
    EXPECT_LT(PairTest(chain, kRule, WrongRule(mistake)), 1e-6) << static_cast<int>(mistake);
  }
  for (const Mistake mistake :
       {Mistake::kOtherNodesResidual, Mistake::kNotRenormalised, Mistake::kFirstChildAgain}) {
    EXPECT_LT(PairTest(tree, kRule, WrongRule(mistake)), 1e-6) << static_cast<int>(mistake);
  }
}

// Block verification that is nearly right, for chains without penalties.
class WrongBlock {
 public:
  enum class Mistake {
    kNone,              // Is a second opinion.
    kFirstFailureEnds,  // As when drafts are judged one by one.
    kResidualOfOne,     // The replacement ignores how likely the accepted drafts were.
    kRoundsShare,       // Rounds have the same numbers at the same positions.
  };
  explicit WrongBlock(Mistake mistake) : mistake_(mistake) {}

  Verdict operator()(const ProposedText& text) {
    const int size = text.proposal->size();
    std::vector<std::vector<double>> p;
    for (int node = 0; node <= size; ++node) p.push_back(P(text, node));
    std::vector<double> joint = {1};
    int last = 0;
    for (int node = 1; node <= size; ++node) {
      const std::size_t draft = static_cast<std::size_t>(text.proposal->token(node));
      const double q = static_cast<double>(text.draft_probabilities.Of(node)[draft]);
      joint.push_back(
          std::min(1.0, joint.back() * p[static_cast<std::size_t>(node - 1)][draft] / q));
      double chance = joint.back();
      if (node < size) {
        const std::vector<double> excess = Excess(text, node, p, joint.back());
        const double sum = std::accumulate(excess.begin(), excess.end(), 0.0);
        chance = sum / (sum + 1 - joint.back());
      }
      const std::uint32_t draw =
          mistake_ == Mistake::kRoundsShare ? 0 : DrawOf(text.rule, node - 1);
      const double uniform =
          Uniform(text.options->seed, text.position + node - 1, RandomStream::kAccept, draw);
      if (uniform < chance) {
        last = node;
      } else if (mistake_ == Mistake::kFirstFailureEnds) {
        break;
      }
    }
    const std::size_t at = static_cast<std::size_t>(last);
    const bool scales = mistake_ != Mistake::kResidualOfOne;
    const std::vector<double> masses =
        last == size ? p[at] : Excess(text, last, p, scales ? joint[at] : 1);
    return {last, Draw(text, last, masses)};
  }

 private:
  std::vector<double> P(const ProposedText& text, int node) {
    sampler_.Read(text.logits->Row(node), *text.options, text.counts);
    std::vector<float> row(kVocab);
    sampler_.WriteProbabilities(row);
    return {row.begin(), row.end()};
  }
  static std::vector<double> Excess(const ProposedText& text, int node,
                                    const std::vector<std::vector<double>>& p, double joint) {
    const std::span<const float> q = text.draft_probabilities.Of(node + 1);
    std::vector<double> excess = p[static_cast<std::size_t>(node)];
    for (std::size_t i = 0; i < excess.size(); ++i) {
      excess[i] = std::max(joint * excess[i] - static_cast<double>(q[i]), 0.0);
    }
    return excess;
  }
  static TokenId Draw(const ProposedText& text, int node, const std::vector<double>& masses) {
    double left = Uniform(text.options->seed, text.position + node, RandomStream::kResidual) *
                  std::accumulate(masses.begin(), masses.end(), 0.0);
    TokenId token = 0;
    while (token + 1 < kVocab && left >= masses[static_cast<std::size_t>(token)]) {
      left -= masses[static_cast<std::size_t>(token++)];
    }
    return token;
  }

  Mistake mistake_;          // What is wrong with it.
  Sampler sampler_{kVocab};  // Reads the target's rows.
};

TEST(EmittedPairs, WrongBlocksFail) {
  using Mistake = WrongBlock::Mistake;
  constexpr AcceptanceRule kRule = AcceptanceRule::kBlock;
  const Setting setting = {"Plain", {.temperature = 1}, kLongChain};
  EXPECT_GT(PairTest(setting, kRule, WrongBlock(Mistake::kNone)), 1e-3);
  for (const Mistake mistake : {Mistake::kFirstFailureEnds, Mistake::kResidualOfOne}) {
    EXPECT_LT(PairTest(setting, kRule, WrongBlock(mistake)), 1e-6) << static_cast<int>(mistake);
  }
}

// Accepted drafts of a round, on average.
double AcceptedPerRound(AcceptanceRule rule, const std::vector<int>& parents) {
  TargetChoice choice(kVocab, 8);
  Sampler sampler(kVocab);
  int accepted = 0;
  constexpr int kRounds = 20000;
  for (int i = 0; i < kRounds; ++i) {
    const SamplingOptions options = {.temperature = 1, .seed = static_cast<std::uint64_t>(i)};
    DraftedText drafted{TreeSpec(parents)};
    drafted.Clear();
    drafted.Draft(StrangeLogits, options, rule, sampler);
    TableReader reader(drafted.text, drafted.proposal);
    drafted.Accept(choice.Judge(drafted.Question(reader, options, rule)));
    accepted += static_cast<int>(drafted.acceptance.path().size());
  }
  return static_cast<double>(accepted) / kRounds;
}

// Standard deviations are below 0.01.
TEST(AcceptedDrafts, AreMoreOfTreesAndOfBlocks) {
  constexpr AcceptanceRule kSpeculative = AcceptanceRule::kSpeculative;
  const double one = AcceptedPerRound(kSpeculative, kOneDraft);
  const double chain = AcceptedPerRound(kSpeculative, kLongChain);
  const double block = AcceptedPerRound(AcceptanceRule::kBlock, kLongChain);
  const double tree = AcceptedPerRound(kSpeculative, {-1, 0, 0, 1, 2, 3, 4, 5, 6});
  EXPECT_NEAR(AcceptedPerRound(AcceptanceRule::kBlock, kOneDraft), one, 0.015);
  EXPECT_GT(block, chain + 0.02);
  EXPECT_GT(tree, chain + 0.1);
  RecordProperty("chain", std::to_string(chain));
  RecordProperty("block", std::to_string(block));
  RecordProperty("tree", std::to_string(tree));
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
    drafted.Clear();
    drafted.Draft(NearLogits, options, drafting, sampler);
    TableReader reader(drafted.text, drafted.proposal);
    drafted.Accept(choice.Judge(drafted.Question(reader, options, judging)));
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
        const std::int64_t position = static_cast<std::int64_t>(row) * kPositions + i;
        sampler.Read({logits.data(), DType::kFloat32, kSize}, options, nullptr);
        return sampler.Choose(DraftNoise(options, position, AcceptanceRule::kMatch, 0));
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
