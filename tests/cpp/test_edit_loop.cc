#include <gtest/gtest.h>

#include "function_engine.h"
#include "generator_fixture.h"
#include "serving/generator.h"
#include "substitute_gpu.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

constexpr TokenId kBegin = 40;
constexpr TokenId kEnd = 41;
constexpr TokenId kPad = 42;
constexpr TokenId kPlaceholder = 43;

// The source backwards, one higher.
Tokens TextOf(Tokens source) {
  for (TokenId& token : source) ++token;
  return {source.rbegin(), source.rend()};
}

// Runs `edit` on the text of every row, begin and end tokens apart; reports `lost` tokens fewer.
template <typename Edit>
std::unique_ptr<Engine> MakeOperation(int& malformed, const int& lost, Edit edit) {
  return MakeEngine([&malformed, &lost, edit](const BoundPorts& ports) {
    for (std::int64_t row = 0; row < ports.Size("input_ids", 0); ++row) {
      const auto ids = ports.Row<const TokenId>("input_ids", row);
      const auto length =
          static_cast<std::size_t>(ports.Row<const std::int64_t>("lengths", row)[0]);
      malformed += ids[0] != kBegin || ids[length - 1] != kEnd ? 1 : 0;
      Tokens text(ids.begin() + 1, ids.begin() + static_cast<std::ptrdiff_t>(length) - 1);
      edit(text, TextOf(SeenSource(ports, row)));
      const auto written = ports.Row<TokenId>("output_ids", row);
      std::fill(written.begin(), written.end(), kPad);
      written[0] = kBegin;
      std::copy(text.begin(), text.end(), written.begin() + 1);
      written[text.size() + 1] = kEnd;
      ports.Row<std::int64_t>("output_lengths", row)[0] = std::ssize(text) + 2 - lost;
    }
  });
}

// Adds two tokens a round, of which the filler gets the second wrong until it stands alone.
struct Fixture {
  explicit Fixture(int batch, int max_rounds = 20, bool on_gpu = false) {
    Bundle bundle;
    bundle.plan.strategy = "levenshtein";
    bundle.plan.loop = LoopKind::kEdit;
    bundle.plan.edit = {
        {"deleter", "inserter", "filler"}, EditStart::kEmpty, max_rounds, kBegin, kEnd, kPad};
    bundle.model.vocab_size = 50;
    bundle.model.context_length = 64;
    bundle.shapes.batch = batch;
    bundle.shapes.max_length = 20;
    bundle.shapes.roles["encoder"].source_lengths = {12};
    for (const char* role : {"deleter", "inserter", "filler"}) {
      bundle.shapes.roles[role].canvas_lengths = {24};
    }
    bundle.roles["encoder"].outputs = {{"encoder_hidden_states", DType::kFloat32, 1}};
    Engines engines;
    engines["encoder"] = MakeIdentityEncoder(encoder_runs);
    engines["deleter"] = MakeOperation(malformed, none, [](Tokens& text, const Tokens& right) {
      while (!text.empty() && text.back() != right[text.size() - 1]) text.pop_back();
    });
    engines["inserter"] = MakeOperation(malformed, none, [](Tokens& text, const Tokens& right) {
      text.resize(std::min(text.size() + 2, right.size()), kPlaceholder);
    });
    engines["filler"] = MakeOperation(malformed, lost, [this](Tokens& text, const Tokens& right) {
      ++fills;
      bool first = true;
      for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != kPlaceholder) continue;
        text[i] = first ? right[i] : 39;
        first = false;
      }
    });
    if (on_gpu) engines = OnGpu(gpu, std::move(engines));
    generator =
        std::make_unique<Generator>(std::move(bundle), std::move(engines), GeneratorOptions());
  }
  Result Write(const Tokens& source, int count) {
    const Request request = Ask(count, source);
    return generator->Generate({&request, 1}, {})[0];
  }

  SubstituteGpu gpu;
  int encoder_runs = 0;
  int fills = 0;      // Rows that the filler saw.
  int malformed = 0;  // Rows without their begin or end.
  int lost = 0;       // Tokens that the filler does not report.
  int none = 0;
  std::unique_ptr<Generator> generator;
};

TEST(EditLoop, EditsUntilNothingChanges) {
  Fixture fixture(1);
  const Result result = fixture.Write({1, 2, 3, 4}, 10);
  EXPECT_EQ(result.token_ids, (Tokens{5, 4, 3, 2}));
  EXPECT_EQ(result.finish_reason, FinishReason::kEos);
  EXPECT_EQ(fixture.fills, 5);  // One token a round, and one round that changes nothing.
  EXPECT_EQ(fixture.encoder_runs, 1);
  EXPECT_EQ(fixture.malformed, 0);
}

TEST(EditLoop, EndsAfterItsRounds) {
  Fixture fixture(1, 2);
  EXPECT_EQ(fixture.Write({1, 2, 3, 4}, 10).token_ids, (Tokens{5, 4, 39}));
  EXPECT_EQ(fixture.fills, 2);
}

TEST(EditLoop, TextWithoutItsEndsIsRefused) {
  Fixture fixture(1);
  fixture.lost = 3;
  EXPECT_EQ(CodeOf([&] { fixture.Write({1, 2, 3, 4}, 10); }), ErrorCode::kBackend);
}

TEST(EditLoop, CutsAtTheNumberOfTokensAskedFor) {
  Fixture fixture(1);
  const Result result = fixture.Write({1, 2, 3, 4}, 3);
  EXPECT_EQ(result.token_ids, (Tokens{5, 4, 3}));
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
}

TEST(EditLoop, RaggedTextsShareRounds) {
  Fixture fixture(2);
  std::vector<Request> requests(5);
  for (std::size_t i = 0; i < 5; ++i) {
    requests[i].prompt_ids.assign(1 + i * 2, static_cast<TokenId>(i));
    requests[i].prompt_ids.back() = 9;
    requests[i].max_new_tokens = 18;
  }
  const std::vector<Result> results = fixture.generator->Generate(requests, {});
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(results[i].token_ids, TextOf(requests[i].prompt_ids));
  }
  EXPECT_EQ(fixture.malformed, 0);
}

// Counts the text's tokens up to 5, one operation after the other; there is no encoder.
std::unique_ptr<Engine> MakeRaise(int& runs, TokenId by) {
  return MakeEngine([&runs, by](const BoundPorts& ports) {
    ++runs;
    for (std::int64_t row = 0; row < ports.Size("input_ids", 0); ++row) {
      const auto ids = ports.Row<const TokenId>("input_ids", row);
      const auto written = ports.Row<TokenId>("output_ids", row);
      std::transform(ids.begin(), ids.end(), written.begin(),
                     [by](TokenId id) { return id < 5 ? std::min<TokenId>(id + by, 5) : id; });
      const std::int64_t length = ports.Row<const std::int64_t>("lengths", row)[0];
      ports.Row<std::int64_t>("output_lengths", row)[0] = length;
    }
  });
}

TEST(EditLoop, RunsAnyOperationsOnThePromptItself) {
  Bundle bundle;
  bundle.plan.loop = LoopKind::kEdit;
  // An even number of them, one twice.
  bundle.plan.edit = {
      {"raise", "jump", "raise", "raise"}, EditStart::kSource, 20, kBegin, kEnd, kPad};
  bundle.model.vocab_size = 50;
  bundle.model.context_length = 64;
  bundle.shapes.max_length = 12;
  for (const char* role : {"raise", "jump"}) bundle.shapes.roles[role].canvas_lengths = {12};
  int raises = 0;
  int jumps = 0;
  Engines engines;
  engines["raise"] = MakeRaise(raises, 1);
  engines["jump"] = MakeRaise(jumps, 0);
  Generator generator(std::move(bundle), std::move(engines), GeneratorOptions());
  Request request;
  request.prompt_ids = {1, 7, 3};
  request.max_new_tokens = 11;
  const Result result = generator.Generate({&request, 1}, {})[0];
  EXPECT_EQ(result.token_ids, (Tokens{5, 7, 5}));
  EXPECT_EQ(result.finish_reason, FinishReason::kEos);
  EXPECT_EQ(result.statistics.rounds, 3);  // Up to 4, to 5, and one that changes nothing.
  EXPECT_EQ(raises, 9);
  EXPECT_EQ(jumps, 3);
  EXPECT_EQ(generator.Measure({.role = "jump", .num_tokens = 12, .repeats = 2}).size(), 2U);
  EXPECT_EQ(CodeOf([&] { generator.Measure({.role = "filler", .num_tokens = 12}); }),
            ErrorCode::kUsage);
  request.prompt_ids = Tokens(11, 1);  // A canvas has room for 10 between its ends.
  EXPECT_EQ(CodeOf([&] { generator.Generate({&request, 1}, {}); }), ErrorCode::kCapacity);
}

// What the encoder made of the sources stays on the device; the texts go from engine to engine
// through the host's memory, with one wait a round.
TEST(EditLoop, WritesTheSameOnAGpu) {
  Fixture host(2);
  Fixture fixture(2, 20, /*on_gpu=*/true);
  std::vector<Request> requests(4);
  for (std::size_t i = 0; i < 4; ++i) {
    requests[i].prompt_ids = Tokens(4 + i, static_cast<TokenId>(i) + 1);
    requests[i].max_new_tokens = 12;
  }
  const std::vector<Result> expected = host.generator->Generate(requests, {});
  const std::vector<Result> results = fixture.generator->Generate(requests, {});
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(results[i].token_ids, expected[i].token_ids);
  EXPECT_EQ(fixture.malformed, 0);
  EXPECT_EQ(fixture.gpu.violations, 0);
  const SubstituteGpu before = fixture.gpu;
  fixture.generator->Generate(requests, {});
  const int runs = fixture.gpu.runs - before.runs;
  EXPECT_EQ(fixture.gpu.launches - before.launches, runs);
  EXPECT_LT((fixture.gpu.synchronisations - before.synchronisations) * 3, runs);
  fixture.generator->Close();
  EXPECT_EQ(fixture.gpu.live_pins, 0);
  EXPECT_EQ(fixture.gpu.live_blocks, 0);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

}  // namespace
}  // namespace ptgc
