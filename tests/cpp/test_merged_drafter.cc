#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "drafters/merged_drafter.h"
#include "generator_fixture.h"
#include "loops/speculative_loop.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

// Writes down what it is told. It drafts its token for every row: at once, or in Collect.
class Scripted : public Drafter {
 public:
  Scripted(TokenId token, bool runs_model) : token_(token), runs_model_(runs_model) {}

  void Begin(int row) override { told += "begin " + std::to_string(row) + "; "; }
  void Truncate(int row, int length) override {
    told += "truncate " + std::to_string(row) + " " + std::to_string(length) + "; ";
  }
  void CopyRow(int from, int to) override {
    told += "copy " + std::to_string(from) + " " + std::to_string(to) + "; ";
  }
  void Clear() override { told += "clear; "; }
  int Propose(const DraftRow& row) override {
    if (!runs_model_) row.proposal->Append(token_);
    return 1;
  }
  void Draft(std::span<const DraftRow> rows) override {
    for (const DraftRow& row : rows) {
      drafted.insert(row.row);
      if (runs_model_) row.proposal->Append(0);
      row.proposal->Truncate(row.limit);
    }
    is_pending_ = runs_model_ && !rows.empty();
  }
  bool is_pending() const override { return is_pending_; }
  void Collect(std::span<const DraftRow> rows) override {
    is_pending_ = false;
    for (const DraftRow& row : rows) row.proposal->Set(1, token_);
  }
  void Observe(int row, const Observation&) override {
    told += "observe " + std::to_string(row) + "; ";
  }
  double Cost(int count) const override { return runs_model_ ? count : 0; }
  double CatchUp(const DraftRow&) const override { return runs_model_ ? 5 : 0; }
  DraftProbabilities Probabilities(int, int) const override {
    if (!runs_model_) return {};
    return {probabilities_, indices_, 3};
  }

  std::string told;
  std::set<int> drafted;

 private:
  TokenId token_;
  bool runs_model_;
  bool is_pending_ = false;
  std::vector<float> probabilities_ = {0.5F, 0.25F, 0.25F};
  std::vector<int> indices_ = {DraftProbabilities::kCertain, 0};
};

struct Fixture {
  Fixture() {
    std::vector<std::unique_ptr<Drafter>> parts;
    parts.emplace_back(lookup);
    parts.emplace_back(model);
    merged = std::make_unique<MergedDrafter>(std::move(parts), std::vector{4, 4}, 2);
  }
  // Both rows draft, each with the part that is given.
  void Draft(int first_part, int second_part) {
    rows.clear();
    for (int row = 0; row < 2; ++row) {
      proposals[row].Clear();
      DraftRow asked{row, text, 0, 1, &proposals[row]};
      asked.part = row == 0 ? first_part : second_part;
      EXPECT_EQ(merged->Propose(asked), 1);
      rows.push_back(asked);
    }
    merged->Draft(rows);
  }

  Scripted* lookup = new Scripted(7, false);
  Scripted* model = new Scripted(8, true);
  std::unique_ptr<MergedDrafter> merged;
  Tokens text = {1, 2, 3};
  Proposal proposals[2] = {Proposal(2), Proposal(2)};
  std::vector<DraftRow> rows;
};

TEST(MergedDrafter, EveryPartFollowsEveryText) {
  Fixture fixture;
  fixture.merged->Begin(1);
  fixture.merged->Truncate(0, 4);
  fixture.merged->CopyRow(0, 1);
  fixture.merged->Observe(1, {});
  fixture.merged->Clear();
  EXPECT_EQ(fixture.lookup->told, "begin 1; truncate 0 4; copy 0 1; observe 1; clear; ");
  EXPECT_EQ(fixture.model->told, fixture.lookup->told);
}

TEST(MergedDrafter, EachRowIsDraftedByThePartThatItAsks) {
  Fixture fixture;
  fixture.Draft(1, 0);
  EXPECT_EQ(fixture.lookup->drafted, std::set<int>{1});
  EXPECT_EQ(fixture.model->drafted, std::set<int>{0});
  EXPECT_EQ(fixture.proposals[0].token(1), 8);
  EXPECT_EQ(fixture.proposals[1].token(1), 7);
}

// The target would read the pending drafts for all rows.
TEST(MergedDrafter, PendingDraftsAreCollectedIfAnythingWasLookedUp) {
  Fixture fixture;
  fixture.Draft(0, 1);
  EXPECT_FALSE(fixture.merged->is_pending());
  fixture.Draft(1, 1);
  EXPECT_TRUE(fixture.merged->is_pending());
  fixture.merged->Collect(fixture.rows);
  EXPECT_FALSE(fixture.merged->is_pending());
  EXPECT_EQ(fixture.proposals[1].token(1), 8);
  fixture.Draft(0, 0);
  EXPECT_FALSE(fixture.merged->is_pending());
}

TEST(MergedDrafter, OnlyDraftsOfTheModelHaveProbabilities) {
  Fixture fixture;
  fixture.Draft(0, 1);
  EXPECT_TRUE(fixture.merged->Probabilities(0, 1).Of(1).empty());
  EXPECT_EQ(fixture.merged->Probabilities(1, 1).Of(1)[0], 0.5F);
  EXPECT_EQ(fixture.merged->Cost(3), 3);
  EXPECT_EQ(fixture.merged->CatchUp(fixture.rows[0]), 0);
  EXPECT_EQ(fixture.merged->CatchUp(fixture.rows[1]), 5);
}

class MergedGenerator : public testing::TestWithParam<int> {};

TEST_P(MergedGenerator, WritesThePlainTextWithDraftsOfBothParts) {
  for (const DrafterPlan& lookup : {NgramPlan(), SuffixPlan()}) {
    GeneratorFixture fixture({.batch = GetParam(), .drafter = MergedPlan({lookup, ModelPlan(5)})});
    std::vector<Request> requests;
    for (int i = 0; i < 5; ++i) {
      requests.push_back(Ask(30 + i * 10, MakePrompt(2 + i * 9, i)));
      requests.back().trace = true;
    }
    const std::vector<Result> results = fixture.generator.Generate(requests, {});
    int accepted[2] = {0, 0}, most[2] = {0, 0};
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(results[i].token_ids,
                Continuation(requests[i].prompt_ids, requests[i].max_new_tokens));
      for (const TraceRound& round : results[i].trace) {
        accepted[round.part] += round.accepted;
        most[round.part] = std::max(most[round.part], static_cast<int>(round.drafted_ids.size()));
      }
    }
    EXPECT_GT(accepted[0], 10);
    EXPECT_GT(accepted[1], 10);
    EXPECT_LE(most[1], 5);
    EXPECT_EQ(fixture.seen.broken_texts + fixture.drafter_seen.broken_texts, 0);
    EXPECT_EQ(fixture.seen.out_of_bounds + fixture.drafter_seen.out_of_bounds, 0);
  }
}

// Right at every other length of the text, and costs nothing.
class Knowing : public Scripted {
 public:
  Knowing() : Scripted(0, false) {}
  int Propose(const DraftRow& row) override {
    ++times_asked;
    if (row.text.size() % 2 == 1) return 0;
    for (TokenId token : Continuation({row.text.begin(), row.text.end()}, std::min(row.limit, 3))) {
      row.proposal->Append(token);
    }
    return row.proposal->size();
  }

  int times_asked = 0;
};

// Always wrong, and a third of a round expensive.
class Erring : public Scripted {
 public:
  Erring() : Scripted(kVocabSize - 1, true) {}
  void Draft(std::span<const DraftRow> rows) override {
    for (const DraftRow& row : rows) {
      if (row.limit == 0) continue;
      row.proposal->Append((NextToken(row.text) + 1) % kVocabSize);
      ++rounds;
    }
  }
  double Cost(int count) const override { return count > 0 ? 0.3 : 0; }
  double CatchUp(const DraftRow&) const override { return 0; }
  double spent() const override { return 0.3; }

  int rounds = 0;
};

// The model's losses are its own: it must not live on what looking up saves, nor spoil it.
TEST(MergedDrafter, EachPartAnswersForItself) {
  auto lookup = std::make_unique<Knowing>();
  auto model = std::make_unique<Erring>();
  const Knowing& knowing = *lookup;
  const Erring& erring = *model;
  std::vector<std::unique_ptr<Drafter>> drafters;
  drafters.push_back(std::move(lookup));
  drafters.push_back(std::move(model));
  const Bundle bundle = SubstituteBundle(1, MergedPlan({NgramPlan(), ModelPlan(1)}));
  Observations seen;
  SpeculativeParts parts{
      nullptr,
      std::make_unique<MergedDrafter>(std::move(drafters), std::vector{16, 16}, 1),
      std::make_unique<CausalModel>(std::make_unique<SubstituteEngine>(seen), bundle, "target",
                                    kVocabSize),
      bundle.plan,
      bundle.plan.tree,
      bundle.shapes.roles.at("target"),
      DraftLength(DraftLengthMode::kMeasured,
                  CostCurve(bundle.shapes.roles.at("target").widths, {})),
      AcceptanceRates(),
      7,
      bundle.shapes.max_length,
  };
  Session session(0, {bundle.shapes.max_length, bundle.model.context_length, kVocabSize});
  Session* const sessions[] = {&session};
  SpeculativeLoop loop(std::move(parts), sessions);
  const Tokens prompt = MakePrompt(5, 1);
  session.Append(prompt);
  int accepted[2] = {0, 0}, rounds = 0;
  while (session.length() < 105) {
    Turn turn;
    turn.session = &session;
    turn.max_new_tokens = 105 - session.length();
    turn.may_draft = true;
    loop.Round({&turn, 1});
    if (turn.max_new_tokens > 1) ++rounds;
    accepted[turn.part] += turn.accepted;
  }
  EXPECT_EQ(Tokens(session.tokens().begin() + 5, session.tokens().end()),
            Continuation(prompt, 100));
  EXPECT_GT(accepted[0], 40);
  EXPECT_EQ(accepted[1], 0);
  EXPECT_EQ(knowing.times_asked, rounds);
  EXPECT_GT(erring.rounds, 0);
  EXPECT_LE(erring.rounds * 0.36, 1.5 + 0.5 * 0.015 * 100);
}

INSTANTIATE_TEST_SUITE_P(Batches, MergedGenerator, testing::Values(1, 3));

}  // namespace
}  // namespace ptgc
