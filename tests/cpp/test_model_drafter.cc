#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "drafters/model_drafter.h"
#include "sampling/row_sampling.h"
#include "substitute_engine.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

constexpr int kMostDrafts = 9;
constexpr int kContext = 60;

constexpr int kChainDrafts = 5;

// A drafter of two rows that errs at every third position, driven by hand.
struct Fixture {
  explicit Fixture(std::int64_t target_vocab_size = kVocabSize,
                   TreeSpec tree = TreeSpec::Chain(kChainDrafts), bool is_dynamic = false,
                   bool shares_cache = false) {
    Bundle bundle = SubstituteBundle(2, ModelPlan(tree.num_nodes() - 1));
    bundle.shapes.roles.at("drafter").verify_width = tree.is_chain() ? 1 : 8;
    CausalNeighbours chain;
    chain.chain_length = tree.height();
    auto model = std::make_unique<CausalModel>(
        std::make_unique<SubstituteEngine>(seen, std::set<std::string>(), /*wrong_every=*/3),
        bundle, "drafter", kVocabSize, std::move(chain));
    drafter = std::make_unique<ModelDrafter>(
        std::move(model), shares_cache, kContext, target_vocab_size, std::move(tree), is_dynamic,
        AcceptanceRule::kMatch, CostCurve(bundle.shapes.roles.at("drafter").widths, {}));
    costs = CostCurve(bundle.shapes.roles.at("drafter").widths, {});
  }
  // Drafts for both rows.
  void Draft(int first_limit, int second_limit) {
    std::vector<DraftRow> rows;
    for (int row = 0; row < 2; ++row) {
      const int limit = row == 0 ? first_limit : second_limit;
      proposals[row].Clear();
      rows.push_back({row, texts[row], 0, limit, &proposals[row], &sampling[row]});
    }
    drafter->Draft(rows);
    was_pending = drafter->is_pending();
    if (was_pending) drafter->Collect(rows);
    EXPECT_FALSE(drafter->is_pending());
  }
  // What the drafter must say after a row's text.
  Tokens Expected(int row, int count) const {
    Tokens text = texts[row];
    for (int i = 0; i < count; ++i) {
      const bool wrong = text.size() % 3 == 0;
      text.push_back((NextToken(text) + (wrong ? 1 : 0)) % kVocabSize);
    }
    return {text.end() - count, text.end()};
  }
  Tokens Drafted(int row) const {
    return {proposals[row].tokens().begin(), proposals[row].tokens().end()};
  }
  // The target keeps `accepted` drafts of a row and adds a token.
  void Keep(int row, int accepted, TokenId bonus) {
    const Tokens drafted = Drafted(row);
    texts[row].insert(texts[row].end(), drafted.begin(), drafted.begin() + accepted);
    texts[row].push_back(bonus);
    const int path[] = {1, 2, 3, 4, 5};
    Observation accepts;
    accepts.path = std::span(path).first(static_cast<std::size_t>(accepted));
    drafter->Observe(row, accepts);
  }
  // The target keeps the drafts down to a node of a tree and adds a token.
  void KeepDownTo(int row, int node, TokenId bonus) {
    std::vector<int> path;
    for (; node > 0; node = proposals[row].tree().parent(node)) path.insert(path.begin(), node);
    for (const int kept : path) texts[row].push_back(proposals[row].token(kept));
    texts[row].push_back(bonus);
    Observation accepts;
    accepts.path = path;
    drafter->Observe(row, accepts);
  }

  Observations seen;
  CostCurve costs{{1}, {}};
  bool was_pending = false;  // After the last Draft.
  std::unique_ptr<ModelDrafter> drafter;
  Tokens texts[2] = {MakePrompt(37, 1), MakePrompt(4, 2)};  // More than two chunks, and few.
  Proposal proposals[2] = {Proposal(kMostDrafts), Proposal(kMostDrafts)};
  RowSampling sampling[2];
};

TEST(ModelDrafter, DraftsWhatItsModelSays) {
  Fixture fixture;
  for (int round = 0; round < 4; ++round) {
    fixture.Draft(kChainDrafts - round, kChainDrafts);
    EXPECT_EQ(fixture.Drafted(0), fixture.Expected(0, kChainDrafts - round));
    EXPECT_EQ(fixture.Drafted(1), fixture.Expected(1, kChainDrafts));
    fixture.Keep(0, round % 2, 3);
    fixture.Keep(1, kChainDrafts - round, 4);
  }
  EXPECT_TRUE(fixture.was_pending);
  EXPECT_EQ(fixture.seen.broken_texts, 0);
}

TEST(ModelDrafter, OverTheTargetsCacheItWaitsUntilTheTargetHasReadThePrompt) {
  Fixture fixture(kVocabSize, TreeSpec::Chain(kChainDrafts), /*is_dynamic=*/false,
                  /*shares_cache=*/true);
  const int length = static_cast<int>(fixture.texts[1].size());
  for (int committed = 0; committed < length; ++committed) {
    const int offered =
        fixture.drafter->Propose({1, fixture.texts[1], committed, 3, nullptr, nullptr});
    EXPECT_EQ(offered, committed + 1 < length ? 0 : 3) << committed;
  }
}

// Somebody must see each draft before the next: one row's are drawn, or may be unknown to the
// target, which then has none behind such a one.
TEST(ModelDrafter, DraftsThatTheHostChoosesAreNotPending) {
  Fixture drawn;
  SamplingOptions options;
  options.temperature = 1;
  drawn.sampling[0].Begin(options, drawn.texts[0], kVocabSize, 128);
  drawn.Draft(3, 3);
  EXPECT_FALSE(drawn.was_pending);
  EXPECT_EQ(drawn.Drafted(0).size(), 3U);
  EXPECT_EQ(drawn.Drafted(1), drawn.Expected(1, 3));

  constexpr TokenId kKnown = kVocabSize / 2;
  Fixture smaller(kKnown);
  bool was_cut = false;
  for (int length = 4; length < 60 && !was_cut; ++length) {
    smaller.texts[1] = MakePrompt(length, length);
    smaller.drafter->Begin(1);
    smaller.Draft(0, kChainDrafts);
    EXPECT_FALSE(smaller.was_pending);
    const Tokens expected = smaller.Expected(1, kChainDrafts);
    const auto unknown = std::find_if(expected.begin(), expected.end(),
                                      [](TokenId token) { return token >= kKnown; });
    EXPECT_EQ(smaller.Drafted(1), Tokens(expected.begin(), unknown));
    was_cut = unknown != expected.end();
  }
  EXPECT_TRUE(was_cut);
}

TEST(ModelDrafter, RowWithoutLimitWaits) {
  Fixture fixture;
  fixture.Draft(0, 2);
  EXPECT_TRUE(fixture.Drafted(0).empty());
  EXPECT_EQ(fixture.Drafted(1), fixture.Expected(1, 2));
  fixture.Draft(0, 0);
  EXPECT_EQ(fixture.seen.runs, 2);
  fixture.Draft(3, 0);
  EXPECT_EQ(fixture.Drafted(0), fixture.Expected(0, 3));
}

// After a round whose target failed nothing is accepted.
TEST(ModelDrafter, ForgetsDraftsThatNobodyAccepted) {
  Fixture fixture;
  fixture.Draft(4, 4);
  fixture.Draft(4, 4);
  EXPECT_EQ(fixture.Drafted(1), fixture.Expected(1, 4));
  EXPECT_EQ(fixture.seen.broken_texts, 0);
}

TEST(ModelDrafter, FollowsRewoundAndCopiedTexts) {
  Fixture fixture;
  fixture.Draft(3, 3);
  fixture.Keep(0, 2, 1);
  fixture.texts[0].resize(30);
  fixture.drafter->Truncate(0, 30);
  fixture.texts[0].push_back(9);
  fixture.Draft(3, 3);
  EXPECT_EQ(fixture.Drafted(0), fixture.Expected(0, 3));
  fixture.drafter->Observe(0, {});
  fixture.drafter->Begin(1);
  fixture.drafter->CopyRow(0, 1);
  fixture.texts[1] = fixture.texts[0];
  fixture.texts[1].push_back(8);
  const int runs = fixture.seen.runs;
  fixture.Draft(0, 2);
  EXPECT_EQ(fixture.Drafted(1), fixture.Expected(1, 2));
  EXPECT_EQ(fixture.seen.runs, runs + 2);  // Nothing of the copy was read again.
  EXPECT_EQ(fixture.seen.broken_texts, 0);
}

// The most valuable nodes come first, so that depths alternate: 0, 1, 2, 1, 3, 1.
TEST(ModelDrafter, CostIsThatOfTheDepthsThatTheFirstDraftsHave) {
  const Fixture fixture(kVocabSize, TreeSpec({-1, 0, 1, 0, 2, 0}));
  const CostCurve& costs = fixture.costs;
  const double first = costs.At(1);
  EXPECT_EQ(fixture.drafter->Cost(0), 0);
  EXPECT_EQ(fixture.drafter->Cost(1), first);
  EXPECT_EQ(fixture.drafter->Cost(2), first + costs.AtLeast(1));
  EXPECT_EQ(fixture.drafter->Cost(3), first + costs.AtLeast(2));
  EXPECT_EQ(fixture.drafter->Cost(4), first + costs.AtLeast(2) + costs.AtLeast(1));
  EXPECT_EQ(fixture.drafter->Cost(5), first + costs.AtLeast(3) + costs.AtLeast(1));
}

TEST(ModelDrafter, OffersNothingBeyondItsContext) {
  Fixture fixture;
  const auto offered = [&](int length, int limit) {
    fixture.texts[0] = MakePrompt(length, 1);
    return fixture.drafter->Propose({0, fixture.texts[0], 0, limit, nullptr, nullptr});
  };
  EXPECT_EQ(offered(10, 3), 3);
  EXPECT_EQ(offered(10, 9), kChainDrafts);
  EXPECT_EQ(offered(kContext - 2, 9), 2);
  EXPECT_EQ(offered(kContext, 9), 0);
  EXPECT_EQ(offered(kContext + 7, 9), 0);
  fixture.texts[0] = MakePrompt(kContext - 2, 1);
  fixture.Draft(2, 0);
  EXPECT_EQ(fixture.Drafted(0), fixture.Expected(0, 2));
  EXPECT_EQ(fixture.seen.out_of_bounds, 0);
}

// Whichever branch is accepted, what was read of it stays: nothing is read again, and what follows
// is drafted behind it.
TEST(ModelDrafter, KeepsWhatItReadOfADynamicTree) {
  const TreeSpec shape({-1, 0, 0, 0, 1, 2, 3, 4, 5, 6});
  Fixture fixture(kVocabSize, shape, /*is_dynamic=*/true);
  int deep = 0;
  for (int round = 0; round < 12; ++round) {
    const int runs = fixture.seen.runs;
    fixture.Draft(kMostDrafts, kMostDrafts);
    if (round > 0) {
      EXPECT_EQ(fixture.seen.runs, runs + 3);
    }
    for (int row = 0; row < 2; ++row) {
      const Proposal& proposal = fixture.proposals[row];
      ASSERT_EQ(proposal.size(), kMostDrafts);
      EXPECT_EQ(proposal.token(1), fixture.Expected(row, 1)[0]);
      const std::span<const double> gains = fixture.drafter->Gains(row);
      ASSERT_EQ(gains.size(), static_cast<std::size_t>(kMostDrafts));
      EXPECT_TRUE(std::is_sorted(gains.rbegin(), gains.rend()));
      const int node = (round * 7 + row * 4) % (kMostDrafts + 1);
      deep += proposal.tree().depth(node) > 1 ? 1 : 0;
      fixture.KeepDownTo(row, node, 3 + row);
      if (fixture.texts[row].size() > 45) {
        fixture.texts[row].resize(20);
        fixture.drafter->Truncate(row, 20);
      }
    }
  }
  EXPECT_GT(deep, 4);
  EXPECT_EQ(fixture.seen.broken_texts, 0);
  EXPECT_EQ(fixture.seen.out_of_bounds, 0);
}

// With fewer drafts the deeper runs are left out.
TEST(ModelDrafter, ADynamicTreeIsCutAtItsLimit) {
  Fixture fixture(kVocabSize, TreeSpec({-1, 0, 0, 0, 1, 2, 3, 4, 5, 6}), /*is_dynamic=*/true);
  fixture.Draft(0, 0);
  EXPECT_TRUE(fixture.drafter->Gains(0).empty());
  fixture.Draft(kMostDrafts, 0);
  const int runs = fixture.seen.runs;
  fixture.Draft(3, 0);
  EXPECT_EQ(fixture.seen.runs, runs + 1);
  EXPECT_EQ(fixture.proposals[0].size(), 3);
  EXPECT_EQ(fixture.proposals[0].tree().height(), 1);
  EXPECT_EQ(fixture.proposals[1].size(), 0);
}

}  // namespace
}  // namespace ptgc
