#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "counted_new.h"
#include "drafters/block_drafter.h"
#include "function_engine.h"
#include "sampling/row_sampling.h"
#include "substitute_engine.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

constexpr int kBlock = 5;
constexpr int kContext = 60;
constexpr TokenId kMask = kVocabSize - 1;
constexpr int kLayers = kBlock - 1;

enum class Kind { kPard, kBlock, kLayers };

// What the runs saw.
struct Seen {
  int runs = 0;
  int rows = 0;  // Of the last run, of its first sequence.
  int wrong =
      0;  // Positions, masks and states that are not those of a run, and rows to read again.
  int states = 0;  // Rows that were read as states.
};

constexpr float kUnreliable = -1;  // Keys that depend on drafts.

// The token of draft i after a text.
TokenId DraftOf(const Tokens& text, int i) { return (NextToken(text) + i) % (kVocabSize - 2); }

// One sequence of a run of the made-up model, which keeps ids in its keys. In blocks, the rows
// before the first with logits are context, whose ids come from the states, and the others see the
// whole round. With layers, the last rows of a run are not to be relied on later, and the text
// comes from the states, which are kept in the values, and the last id.
class Sequence {
 public:
  Sequence(const BoundPorts& ports, std::int64_t row, Kind kind, Seen& seen)
      : ids_(ports.Row<const TokenId>("input_ids", row)),
        positions_(ports.Row<const std::int64_t>("position_ids", row)),
        mask_(ports.Row<const bool>("tree_mask", row)),
        logits_rows_(ports.Row<const std::int64_t>("logits_rows", row)),
        keys_(ports.Row<float>("past_key_values.0.key", row)),
        values_(ports.Row<float>("past_key_values.0.value", row)),
        next_ids_(ports.Row<TokenId>("next_ids", row)),
        start_(static_cast<std::size_t>(ports.Row<const std::int64_t>("write_index", row)[0])),
        count_(static_cast<std::size_t>(ports.Row<const std::int64_t>("row_count", row)[0])),
        kind_(kind),
        seen_(seen) {
    if (kind != Kind::kPard) states_ = ports.Row<const float>("hidden_states", row);
    if (ports.Has("logits")) logits_ = ports.Row<float>("logits", row);
  }

  void Run() {
    if (kind_ == Kind::kLayers) {
      ReadPairs();
    } else {
      for (std::size_t t = 0; t < count_; ++t) Write(t);
    }
    for (std::size_t r = 0; r < logits_rows_.size() && count_ > 0; ++r) Speak(r);
  }

 private:
  void ReadPairs() {
    if (count_ == 0) return;
    const std::span<const float> before = keys_.first(start_);
    seen_.wrong += static_cast<int>(std::count(before.begin(), before.end(), kUnreliable));
    for (std::size_t t = 0; t < count_; ++t) {
      if (positions_[t] != static_cast<std::int64_t>(start_ + t)) ++seen_.wrong;
      if (t > 0 && states_[t] != static_cast<float>(ids_[t - 1])) ++seen_.wrong;
      values_[start_ + t] = states_[t];
      keys_[start_ + t] = t + kLayers > count_ ? kUnreliable : static_cast<float>(ids_[t]);
    }
    seen_.states += static_cast<int>(count_);
  }

  void Write(std::size_t t) {
    const bool is_block = kind_ == Kind::kBlock;
    const bool is_context = is_block && t < static_cast<std::size_t>(logits_rows_[0]);
    keys_[start_ + t] = is_context ? states_[t] : static_cast<float>(ids_[t]);
    seen_.states += is_context ? 1 : 0;
    if (positions_[t] != static_cast<std::int64_t>(start_ + t)) ++seen_.wrong;
    const auto row = mask_.subspan(t * ids_.size(), count_);
    const bool sees_all = std::all_of(row.begin(), row.end(), [](bool sees) { return sees; });
    if (is_block && !is_context && !sees_all) ++seen_.wrong;
  }

  TokenId Draft(std::size_t r) const {
    Tokens text;
    if (kind_ == Kind::kLayers) {
      for (const float value : values_.first(start_ + count_)) {
        text.push_back(static_cast<TokenId>(value));
      }
      text.push_back(ids_[count_ - 1]);
      return DraftOf(text, static_cast<int>(r));
    }
    std::size_t end = start_ + static_cast<std::size_t>(logits_rows_[r]) + 1;
    int masks = 0;
    for (; keys_[end - 1] == static_cast<float>(kMask); --end) ++masks;
    for (const float key : keys_.first(end)) text.push_back(static_cast<TokenId>(key));
    return DraftOf(text, kind_ == Kind::kBlock ? masks - 1 : masks);
  }

  void Speak(std::size_t r) {
    next_ids_[r] = Draft(r);
    if (logits_.empty()) return;
    for (TokenId token = 0; token < kVocabSize; ++token) {
      const TokenId distance = (token - next_ids_[r] + kVocabSize) % kVocabSize;
      logits_[r * kVocabSize + static_cast<std::size_t>(token)] = -static_cast<float>(distance);
    }
  }

  std::span<const TokenId> ids_;
  std::span<const std::int64_t> positions_;
  std::span<const bool> mask_;
  std::span<const std::int64_t> logits_rows_;
  std::span<float> keys_;
  std::span<float> values_;
  std::span<TokenId> next_ids_;
  std::span<const float> states_;
  std::span<float> logits_;
  std::size_t start_;
  std::size_t count_;
  Kind kind_;
  Seen& seen_;
};

std::unique_ptr<Engine> Model(Kind kind, Seen& seen) {
  return MakeEngine([kind, &seen](const BoundPorts& ports) {
    ++seen.runs;
    seen.rows = static_cast<int>(ports.Row<const std::int64_t>("row_count", 0)[0]);
    for (std::int64_t row = 0; row < ports.Size("input_ids", 0); ++row) {
      Sequence(ports, row, kind, seen).Run();
    }
  });
}

// States that are the token ids.
class TokenTaps : public Taps {
 public:
  explicit TokenTaps(Tokens tokens) : tokens_(std::move(tokens)) {}
  void Copy(int first, int count, void* to) const override {
    for (int i = 0; i < count; ++i) {
      static_cast<float*>(to)[i] = static_cast<float>(tokens_[static_cast<std::size_t>(first + i)]);
    }
  }

 private:
  Tokens tokens_;
};

BlockParameters Parameters(Kind kind) {
  BlockParameters parameters;
  parameters.block_size = kind == Kind::kBlock ? kBlock : kind == Kind::kPard ? kBlock - 1 : 1;
  parameters.mask_token_id = kind == Kind::kLayers ? kNoToken : kMask;
  parameters.depth = kBlock - 1;
  parameters.rows_read_again = kind == Kind::kBlock ? 1 : kind == Kind::kPard ? 0 : kLayers - 1;
  parameters.first_logits = kind == Kind::kBlock ? 1 : 0;
  parameters.reads_pairs = kind == Kind::kLayers;
  return parameters;
}

// A drafter of two rows, driven by hand.
struct Fixture {
  explicit Fixture(Kind kind, const TreeSpec& tree = TreeSpec::Chain(kBlock - 1))
      : Fixture(kind, tree, Model(kind, seen)) {}
  Fixture(Kind kind, const TreeSpec& tree, std::unique_ptr<Engine> engine) {
    Bundle bundle = SubstituteBundle(2, ModelPlan(kBlock - 1));
    Role& role = bundle.roles["drafter"];
    if (kind != Kind::kPard) role.inputs = {{"hidden_states", DType::kFloat32, 1, {}}};
    bundle.shapes.roles["drafter"] = {{1, 4, 8, 12}, kBlock, {40, 80, 144}, {}, {}, {}};
    const BlockParameters parameters = Parameters(kind);
    auto model = std::make_unique<CausalModel>(std::move(engine), bundle, "drafter", kVocabSize);
    drafter = std::make_unique<BlockDrafter>(
        std::move(model), parameters, kContext, kVocabSize, tree, false, AcceptanceRule::kMatch,
        CostCurve(bundle.shapes.roles.at("drafter").widths, {}));
    for (int row = 0; row < 2; ++row) Read(row, 0, 0);
  }
  // The target reads a row's text from `committed` on, up to its last token.
  void Read(int row, int committed, int accepted) {
    const auto first = static_cast<std::size_t>(committed);
    Tokens read(texts[row].begin() + committed, texts[row].end() - 1);
    const TokenTaps taps(read);
    Observation outcome;
    outcome.taps = &taps;
    outcome.committed = first;
    outcome.read = std::span(read).first(read.size() - static_cast<std::size_t>(accepted));
    const int path[] = {1, 2, 3, 4};
    outcome.path = std::span(path).first(static_cast<std::size_t>(accepted));
    outcome.bonus = texts[row].back();
    drafter->Observe(row, outcome);
  }
  void Draft(int first_limit, int second_limit) {
    std::vector<DraftRow> rows;
    for (int row = 0; row < 2; ++row) {
      proposals[row].Clear();
      rows.push_back({row, texts[row], static_cast<int>(texts[row].size()) - 1,
                      row == 0 ? first_limit : second_limit, &proposals[row], &sampling[row]});
    }
    drafter->Draft(rows);
  }
  Tokens Drafted(int row) const {
    return {proposals[row].tokens().begin(), proposals[row].tokens().end()};
  }
  Tokens Expected(int row, int count) const {
    Tokens expected;
    for (int i = 0; i < count; ++i) expected.push_back(DraftOf(texts[row], i));
    return expected;
  }
  // The target keeps `accepted` drafts of a row and adds a token.
  void Keep(int row, int accepted, TokenId bonus) {
    const int committed = static_cast<int>(texts[row].size()) - 1;
    const Tokens drafted = Drafted(row);
    texts[row].insert(texts[row].end(), drafted.begin(), drafted.begin() + accepted);
    texts[row].push_back(bonus);
    Read(row, committed, accepted);
  }
  int Offered(int row, int committed, int limit) {
    return drafter->Propose({row, texts[row], committed, limit, nullptr, nullptr});
  }

  Seen seen;
  std::unique_ptr<BlockDrafter> drafter;
  Tokens texts[2] = {MakePrompt(37, 1), MakePrompt(4, 2)};  // More than two chunks, and few.
  Proposal proposals[2] = {Proposal(16), Proposal(16)};
  RowSampling sampling[2];
};

std::string NameOf(const testing::TestParamInfo<Kind>& info) {
  constexpr const char* kNames[] = {"pard", "block", "layers"};
  return kNames[static_cast<int>(info.param)];
}

class BlockDrafterOfEveryKind : public testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, BlockDrafterOfEveryKind,
                         testing::Values(Kind::kPard, Kind::kBlock, Kind::kLayers), NameOf);

TEST_P(BlockDrafterOfEveryKind, DraftsWhatItsModelSays) {
  Fixture fixture(GetParam());
  for (int round = 0; round < 4; ++round) {
    fixture.Draft(4 - round % 3, 4);
    EXPECT_EQ(fixture.Drafted(0), fixture.Expected(0, 4 - round % 3));
    EXPECT_EQ(fixture.Drafted(1), fixture.Expected(1, 4));
    fixture.Keep(0, round % 2, 3);
    fixture.Keep(1, 4 - round, 4);
  }
  EXPECT_EQ(fixture.seen.wrong, 0);
}

// A run reads what the last round added, and its block; the text before it stays in the cache.
TEST_P(BlockDrafterOfEveryKind, ReadsWhatTheTextGained) {
  Fixture fixture(GetParam());
  fixture.Draft(4, 0);
  EXPECT_TRUE(fixture.Drafted(1).empty());
  const int runs = fixture.seen.runs;
  fixture.Keep(0, 2, 3);
  fixture.Draft(4, 0);
  EXPECT_EQ(fixture.seen.runs, runs + 1);
  const bool is_block = GetParam() == Kind::kBlock;
  EXPECT_EQ(fixture.seen.rows, is_block ? 3 + kBlock : 3 + 3);  // Three masks, or read again.
  EXPECT_EQ(fixture.Drafted(0), fixture.Expected(0, 4));
  fixture.Draft(4, 0);  // The target failed: nothing was added.
  EXPECT_EQ(fixture.Drafted(0), fixture.Expected(0, 4));
  fixture.Draft(1, 0);
  constexpr int kRows[] = {1, kBlock, kLayers - 1};
  EXPECT_EQ(fixture.seen.rows, kRows[static_cast<int>(GetParam())]);
  fixture.Draft(0, 0);
  EXPECT_EQ(fixture.seen.runs, runs + 3);
  EXPECT_EQ(fixture.seen.states > 0, GetParam() != Kind::kPard);
}

TEST_P(BlockDrafterOfEveryKind, FollowsRewoundAndCopiedTexts) {
  Fixture fixture(GetParam());
  fixture.Draft(3, 3);
  fixture.Keep(0, 2, 1);
  fixture.texts[0].resize(30);
  fixture.drafter->Truncate(0, 30);
  fixture.texts[0].push_back(9);
  fixture.Read(0, 29, 0);
  fixture.Draft(3, 3);
  EXPECT_EQ(fixture.Drafted(0), fixture.Expected(0, 3));
  fixture.drafter->Begin(1);
  fixture.drafter->CopyRow(0, 1);
  fixture.texts[1] = fixture.texts[0];
  fixture.texts[1].push_back(8);
  fixture.Read(1, 30, 0);
  const int runs = fixture.seen.runs;
  fixture.Draft(0, 2);
  EXPECT_EQ(fixture.Drafted(1), fixture.Expected(1, 2));
  EXPECT_EQ(fixture.seen.runs, runs + 1);  // Nothing of the copy was read again.
  EXPECT_EQ(fixture.seen.wrong, 0);
}

// The children of a node are the likeliest tokens of its depth, whoever their parent is.
TEST_P(BlockDrafterOfEveryKind, DraftsATree) {
  const std::vector<int> parents = {-1, 0, 0, 1, 1, 2, 3};
  Fixture fixture(GetParam(), TreeSpec(parents));
  fixture.Draft(6, 4);
  const Tokens best = fixture.Expected(0, 3);
  const auto second = [](TokenId token) { return (token + 1) % kVocabSize; };
  EXPECT_EQ(fixture.Drafted(0),
            (Tokens{best[0], second(best[0]), best[1], second(best[1]), best[1], best[2]}));
  for (int node = 1; node < 7; ++node) {
    EXPECT_EQ(fixture.proposals[0].tree().parent(node), parents[static_cast<std::size_t>(node)]);
  }
  EXPECT_EQ(fixture.Drafted(1).size(), 4U);
}

TEST_P(BlockDrafterOfEveryKind, SampledDraftsAreChosenRowByRow) {
  Fixture fixture(GetParam());
  SamplingOptions options;
  options.temperature = 0.01;  // Nearly certain.
  fixture.sampling[0].Begin(options, fixture.texts[0], kVocabSize, 128);
  fixture.Draft(4, 4);
  EXPECT_EQ(fixture.Drafted(0), fixture.Expected(0, 4));
  EXPECT_EQ(fixture.Drafted(1), fixture.Expected(1, 4));
}

TEST_P(BlockDrafterOfEveryKind, OffersNothingBeyondItsContext) {
  Fixture fixture(GetParam());
  const auto offered = [&](int length, int limit) {
    fixture.texts[0] = MakePrompt(length, 1);
    return fixture.Offered(0, length - 1, limit);
  };
  EXPECT_EQ(offered(10, 3), 3);
  EXPECT_EQ(offered(10, 9), 4);
  EXPECT_EQ(offered(kContext - 2, 9), 2);
  EXPECT_EQ(offered(kContext, 9), 0);
  EXPECT_EQ(offered(kContext + 7, 9), 0);
  fixture.texts[0] = {5, kVocabSize, 6};
  EXPECT_EQ(fixture.Offered(0, 2, 4), 0);
}

TEST_P(BlockDrafterOfEveryKind, RoundsAllocateNothing) {
  Fixture fixture(GetParam(), TreeSpec::Chain(4), MakeEngine([](const BoundPorts&) {}));
  const DraftRow row = {0, fixture.texts[0], 36, 4, &fixture.proposals[0], &fixture.sampling[0]};
  for (int round = 0; round < 4; ++round) {
    const long before = NumAllocations();
    fixture.proposals[0].Clear();
    fixture.drafter->Draft({&row, 1});
    if (round > 1) {  // The second may be narrower than the first.
      EXPECT_EQ(NumAllocations() - before, 0);
    }
  }
}

TEST(BlockDrafter, WaitsForStatesOfTheWholeText) {
  Fixture fixture(Kind::kBlock);
  EXPECT_EQ(fixture.Offered(0, 0, 4), 0);
  EXPECT_EQ(fixture.Offered(0, 35, 4), 0);
  EXPECT_EQ(fixture.Offered(0, 36, 4), 4);
}

TEST(BlockDrafter, CostsOneRunWhateverIsDrafted) {
  for (const Kind kind : {Kind::kBlock, Kind::kLayers}) {
    EXPECT_EQ(Fixture(kind).drafter->Cost(1), Fixture(kind).drafter->Cost(4));
    EXPECT_EQ(Fixture(kind).drafter->Cost(0), 0);
  }
  EXPECT_LT(Fixture(Kind::kPard).drafter->Cost(1), Fixture(Kind::kPard).drafter->Cost(4));
}

}  // namespace
}  // namespace ptgc
