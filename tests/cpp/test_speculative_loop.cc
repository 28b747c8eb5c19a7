#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "counted_new.h"
#include "drafters/lookahead_drafter.h"
#include "drafters/model_drafter.h"
#include "drafters/ngram_drafter.h"
#include "drafters/overlapped_drafter.h"
#include "loops/speculative_loop.h"
#include "serving/generation.h"
#include "substitute_engine.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

// A loop over a batch of sessions, driven by hand.
class Loop {
 public:
  Loop(int batch, DrafterPlan drafter, TreeSpec tree, std::set<std::string> absent_inputs = {},
       std::unique_ptr<Drafter> proposes = nullptr, const std::map<int, double>& costs = {},
       DraftLengthMode mode = DraftLengthMode::kFixed) {
    Bundle bundle = SubstituteBundle(batch, drafter);
    bundle.plan.tree = std::move(tree);
    const SessionLimits limits{bundle.shapes.max_length, bundle.model.context_length, kVocabSize};
    for (int row = 0; row < batch; ++row) {
      owned_.push_back(std::make_unique<Session>(row, limits));
      sessions.push_back(owned_.back().get());
    }
    auto target = std::make_unique<CausalModel>(
        std::make_unique<SubstituteEngine>(seen, std::move(absent_inputs)), bundle, "target",
        kVocabSize);
    if (drafter.kind == "ngram") {
      proposes = std::make_unique<NgramDrafter>(drafter.Own<NgramParameters>());
    }
    SpeculativeParts parts{
        nullptr,
        std::move(proposes),
        std::move(target),
        bundle.plan,
        bundle.plan.tree,
        bundle.shapes.roles.at("target"),
        DraftLength(mode, CostCurve(bundle.shapes.roles.at("target").widths, costs)),
        AcceptanceRates(),
        bundle.plan.tree.num_nodes() - 1,
        bundle.shapes.max_length,
    };
    loop = std::make_unique<SpeculativeLoop>(std::move(parts), sessions);
  }

  // Runs every session to `count` new tokens and gives those.
  std::vector<Tokens> Finish(int count) {
    std::vector<int> ends;
    for (Session* session : sessions) ends.push_back(session->length() + count);
    while (true) {
      std::vector<Turn> turns;
      for (std::size_t i = 0; i < sessions.size(); ++i) {
        if (sessions[i]->length() >= ends[i]) continue;
        Turn turn;
        turn.session = sessions[i];
        turn.max_new_tokens = ends[i] - sessions[i]->length();
        turn.may_draft = true;
        turns.push_back(turn);
      }
      if (turns.empty()) break;
      widths.push_back(loop->Round(turns).width);
      ++rounds;
      for (const Turn& turn : turns) {
        accepted += turn.accepted;
        rejected += static_cast<int>(turn.drafted.size()) - turn.accepted;
      }
    }
    std::vector<Tokens> texts;
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      const auto text = sessions[i]->tokens().last(static_cast<std::size_t>(count));
      texts.emplace_back(text.begin(), text.end());
    }
    return texts;
  }

  Observations seen;
  std::vector<Session*> sessions;
  std::unique_ptr<SpeculativeLoop> loop;
  std::vector<int> widths;  // Of all rounds.
  int rounds = 0;
  int accepted = 0;
  int rejected = 0;

 private:
  std::vector<std::unique_ptr<Session>> owned_;
};

// Knows the language: fills a binary tree with the right token in one child and a wrong one in the
// other, and now and then with wrong ones only.
class OracleDrafter : public Drafter {
 public:
  explicit OracleDrafter(TreeSpec tree) : tree_(std::move(tree)) {}
  void Begin(int) override {}
  void Truncate(int, int) override {}
  void CopyRow(int, int) override {}
  int Propose(const DraftRow& row) override { return row.limit; }
  void Draft(std::span<const DraftRow> rows) override {
    for (const DraftRow& row : rows) Fill(row);
  }
  double Cost(int) const override { return 0; }

 private:
  void Fill(const DraftRow& row) const {
    const TreeSpec& tree = tree_;
    std::vector<Tokens> paths = {Tokens(row.text.begin(), row.text.end())};
    std::vector<int> nodes = {0};
    for (int node = 1; node <= row.limit; ++node) {
      Tokens path = paths[static_cast<std::size_t>(tree.parent(node))];
      const TokenId right = NextToken(path);
      const bool is_right = (node + static_cast<int>(row.text.size())) % 3 == 0;
      path.push_back(is_right ? right : (right + 1) % kVocabSize);
      nodes.push_back(
          row.proposal->Add(nodes[static_cast<std::size_t>(tree.parent(node))], path.back()));
      paths.push_back(std::move(path));
    }
  }

  TreeSpec tree_;  // Of a full proposal.
};

// Rounds of up to five drafts: four cells of a window, of which one is the root, and a branch of
// two.
LookaheadParameters LookaheadSizes() {
  LookaheadParameters sizes;
  sizes.ngram_size = 3;
  return sizes;
}

class LoopOverBatch : public testing::TestWithParam<int> {};

TEST_P(LoopOverBatch, SpeculativeTextEqualsPlainText) {
  Loop loop(GetParam(), NgramPlan(), TreeSpec::Chain(7));
  std::vector<Tokens> expected;
  for (int row = 0; row < GetParam(); ++row) {
    const Tokens prompt = MakePrompt(3 + row * 19, row);  // Ragged, up to more than two chunks.
    loop.sessions[static_cast<std::size_t>(row)]->Append(prompt);
    expected.push_back(Continuation(prompt, 80));
  }
  EXPECT_EQ(loop.Finish(80), expected);
  EXPECT_EQ(loop.seen.broken_texts, 0);
  EXPECT_EQ(loop.seen.out_of_bounds, 0);
  EXPECT_GT(loop.accepted, 20);
  EXPECT_GT(loop.rejected, 5);
  EXPECT_LT(loop.rounds, 60);
}

TEST_P(LoopOverBatch, TreesKeepTheirLongestBranch) {
  const TreeSpec tree({-1, 0, 0, 1, 1, 2, 2});
  Loop loop(GetParam(), {}, tree, {}, std::make_unique<OracleDrafter>(tree));
  std::vector<Tokens> expected;
  for (int row = 0; row < GetParam(); ++row) {
    const Tokens prompt = MakePrompt(5 + row * 7, row);
    Session& session = *loop.sessions[static_cast<std::size_t>(row)];
    session.Append(prompt);
    expected.push_back(Continuation(prompt, 60));
  }
  EXPECT_EQ(loop.Finish(60), expected);
  EXPECT_EQ(loop.seen.broken_texts, 0);
  EXPECT_GT(loop.accepted, 20);
  EXPECT_GT(loop.rejected, 20);
}

TEST_P(LoopOverBatch, RowsThatAreOnlyRunSeeTheTextAndTheirPath) {
  Loop loop(GetParam(), {}, TreeSpec({-1, 0, 0, 0, 1, 2}), {},
            std::make_unique<LookaheadDrafter>(GetParam(), LookaheadSizes()));
  std::vector<Tokens> expected;
  for (Session* session : loop.sessions) {
    const Tokens prompt = MakePrompt(5 + session->row() * 7, session->row());
    session->Append(prompt);
    expected.push_back(Continuation(prompt, 60));
  }
  EXPECT_EQ(loop.Finish(60), expected);
  EXPECT_EQ(loop.seen.broken_texts, 0);
  EXPECT_GT(loop.accepted, 5);
  EXPECT_GT(loop.rejected, 60);
}

TEST_P(LoopOverBatch, GraphWithoutTreeMaskReadsChains) {
  Loop loop(GetParam(), NgramPlan(), TreeSpec::Chain(7), {"tree_mask"});
  std::vector<Tokens> expected;
  for (Session* session : loop.sessions) {
    const Tokens prompt = MakePrompt(20, session->row());
    session->Append(prompt);
    expected.push_back(Continuation(prompt, 40));
  }
  EXPECT_EQ(loop.Finish(40), expected);
}

INSTANTIATE_TEST_SUITE_P(Batches, LoopOverBatch, testing::Values(1, 3));

TEST(SpeculativeLoop, RowsThatAreOnlyRunCostNoMoreThanDraftsMay) {
  const std::map<int, double> costs = {{1, 1.0}, {2, 1.2}, {4, 1.9}, {8, 3.0}, {16, 6.0}};
  double seconds[2] = {};
  for (const bool looks_ahead : {false, true}) {
    auto drafter = std::make_unique<LookaheadDrafter>(1, LookaheadSizes());
    Loop loop(1, {}, TreeSpec({-1, 0, 0, 0, 1, 2}), {},
              looks_ahead ? std::move(drafter) : std::unique_ptr<Drafter>(), costs,
              DraftLengthMode::kMeasured);
    loop.sessions[0]->Append(MakePrompt(5, 1));
    loop.Finish(100);
    for (const int width : loop.widths) seconds[looks_ahead ? 1 : 0] += costs.at(width);
    EXPECT_EQ(loop.rejected > 0, looks_ahead);
  }
  // Three plain rounds, a share of the tokens, and what one round may cost beyond them.
  EXPECT_LT(seconds[1], seconds[0] + 3 + 0.015 * 100 + 2);
}

TEST(SpeculativeLoop, ReadsPromptsInChunks) {
  Loop loop(1, {}, TreeSpec::Chain(0));
  loop.sessions[0]->Append(MakePrompt(41, 1));
  loop.Finish(1);
  // 16 + 16, then 9 of the rest fit 16 better than 8 and 1.
  EXPECT_EQ(loop.rounds, 3);
  EXPECT_EQ(loop.sessions[0]->committed(), 41);
}

TEST(SpeculativeLoop, PromptBesideAnotherCallsTextIsReadInRoundsOfTwiceTheCost) {
  Loop loop(1, {}, TreeSpec::Chain(0), {}, nullptr, {{1, 1.0}, {4, 2.0}, {8, 2.1}, {16, 4.0}});
  const Tokens prompt = MakePrompt(41, 1);
  loop.sessions[0]->Append(prompt);
  Turn turn;
  turn.session = loop.sessions[0];
  turn.max_new_tokens = 1;
  std::vector<int> widths;
  for (const bool beside_text : {true, true, false, true, false}) {
    turn.beside_text = beside_text;
    widths.push_back(loop.loop->Round({&turn, 1}).width);
  }
  EXPECT_EQ(widths, (std::vector<int>{4, 4, 16, 4, 16}));
  EXPECT_EQ(loop.sessions[0]->tokens().back(), NextToken(prompt));
}

TEST(SpeculativeLoop, PromptIsReadWhileOthersDecode) {
  Loop loop(2, NgramPlan(), TreeSpec::Chain(7));
  const Tokens first = MakePrompt(4, 1);
  loop.sessions[0]->Append(first);
  std::vector<Turn> turns(1);
  turns[0].session = loop.sessions[0];
  turns[0].max_new_tokens = 40;
  turns[0].may_draft = true;
  loop.loop->Round(turns);
  const Tokens second = MakePrompt(45, 2);
  loop.sessions[1]->Append(second);
  const Tokens expected_first = Continuation(first, 41);
  EXPECT_EQ(loop.Finish(40),
            (std::vector<Tokens>{{expected_first.begin() + 1, expected_first.end()},
                                 Continuation(second, 40)}));
  EXPECT_EQ(loop.seen.broken_texts, 0);
}

TEST(SpeculativeLoop, EndTokenCutsAcceptedDrafts) {
  const Tokens prompt = MakePrompt(6, 3);
  const Tokens text = Continuation(prompt, 60);
  Loop loop(1, NgramPlan(), TreeSpec::Chain(7));
  Session& session = *loop.sessions[0];
  session.Append(prompt);
  loop.Finish(20);
  const Tokens eos = {text[24]};
  const auto first = std::find(text.begin() + 20, text.end(), eos[0]);
  Turn turn;
  turn.session = &session;
  turn.eos_token_ids = eos;
  turn.may_draft = true;
  while (!turn.ended) {
    turn.max_new_tokens = 40;
    loop.loop->Round({&turn, 1});
  }
  EXPECT_EQ(session.tokens().back(), eos[0]);
  EXPECT_EQ(session.length(), 6 + static_cast<int>(first - text.begin()) + 1);
  EXPECT_EQ(session.committed(), session.length() - 1);
}

TEST(SpeculativeLoop, RewoundTextIsWrittenAgain) {
  const Tokens prompt = MakePrompt(10, 4);
  Loop loop(1, NgramPlan(), TreeSpec::Chain(7));
  loop.sessions[0]->Append(prompt);
  const Tokens once = loop.Finish(50)[0];
  loop.sessions[0]->Rewind(50);
  loop.loop->Rewind(*loop.sessions[0]);
  EXPECT_EQ(loop.Finish(50)[0], once);
  loop.sessions[0]->Rewind(13);
  loop.loop->Rewind(*loop.sessions[0]);
  Tokens other(prompt);
  other.insert(other.end(), once.begin(), once.begin() + 37);
  other.push_back(22);
  loop.sessions[0]->Append(Tokens{22});
  EXPECT_EQ(loop.Finish(12)[0], Continuation(other, 12));
  EXPECT_EQ(loop.seen.broken_texts, 0);
}

// A model that errs at every seventh position, and drafts on while the target verifies.
std::unique_ptr<Drafter> OverlappedModel(Observations& seen, int batch, int drafts) {
  const Bundle bundle = SubstituteBundle(batch, OverlapPlan(drafts));
  CausalNeighbours chain;
  chain.chain_length = drafts + 1;
  auto model = std::make_unique<CausalModel>(
      std::make_unique<SubstituteEngine>(seen, std::set<std::string>(), /*wrong_every=*/7), bundle,
      "drafter", kVocabSize, std::move(chain));
  auto drafter = std::make_unique<ModelDrafter>(
      std::move(model), false, bundle.model.context_length, kVocabSize, TreeSpec::Chain(drafts + 1),
      /*is_dynamic=*/false, AcceptanceRule::kMatch,
      CostCurve(bundle.shapes.roles.at("drafter").widths, {}));
  return std::make_unique<OverlappedDrafter>(std::move(drafter), drafts + 1, batch,
                                             bundle.shapes.max_length, AcceptanceRule::kMatch,
                                             kVocabSize);
}

void ExpectNoAllocations(Loop& loop) {
  std::vector<Request> requests(3);
  std::vector<Generation> generations;
  for (Session* session : loop.sessions) session->Append(MakePrompt(10, session->row()));
  loop.Finish(90);  // Binds every shape and both capacities.
  for (std::size_t i = 0; i < 3; ++i) {
    loop.sessions[i]->Reset();
    loop.loop->Begin(*loop.sessions[i]);
    requests[i].prompt_ids = {1, 2, 3};
    requests[i].max_new_tokens = 100;
    generations.emplace_back(requests[i], Clock::now());
    generations.back().Start(*loop.sessions[i], *loop.loop);
  }
  std::vector<Turn> turns(3);
  double host_seconds = 0;
  long before = 0;
  for (int round = 0; round < 13; ++round) {
    if (round == 1) before = NumAllocations();
    for (std::size_t i = 0; i < 3; ++i) turns[i] = generations[i].NextTurn();
    const RoundReport report = loop.loop->Round(turns);
    for (std::size_t i = 0; i < 3; ++i) generations[i].Record(turns[i], report);
    host_seconds += report.round_seconds - report.engine_seconds;
  }
  EXPECT_EQ(NumAllocations(), before);
  testing::Test::RecordProperty("host_nanoseconds_per_round",
                                static_cast<int>(host_seconds / 12 * 1e9));
}

TEST(SpeculativeLoop, AllocatesNothingInSteadyState) {
  Loop loop(3, NgramPlan(), TreeSpec::Chain(7));
  ExpectNoAllocations(loop);
}

TEST(SpeculativeLoop, AllocatesNothingForDraftsMadeAhead) {
  Observations seen;
  Loop loop(3, OverlapPlan(2), TreeSpec::Chain(2), {}, OverlappedModel(seen, 3, 2));
  ExpectNoAllocations(loop);
  EXPECT_GT(seen.runs, 100);
}

}  // namespace
}  // namespace ptgc
