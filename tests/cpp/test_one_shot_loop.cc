#include <gtest/gtest.h>

#include "base/error.h"
#include "function_engine.h"
#include "generator_fixture.h"
#include "serving/generator.h"
#include "serving/session_handle.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

// Every token of the source twice, one higher; multiples of four are blanks.
Tokens TextOf(const Tokens& source) {
  Tokens text;
  for (TokenId token : source) {
    if (token % 4 != 0) text.insert(text.end(), 2, token + 1);
  }
  return text;
}

struct Fixture {
  explicit Fixture(int batch) {
    Bundle bundle;
    bundle.plan.strategy = "ctc";
    bundle.plan.loop = LoopKind::kOneShot;
    bundle.plan.one_shot.upsampling = 2;
    bundle.model.vocab_size = 50;
    bundle.model.context_length = 64;
    bundle.shapes.batch = batch;
    bundle.shapes.max_length = 40;
    bundle.shapes.roles["encoder"].source_lengths = {12};
    bundle.roles["encoder"].outputs = {{"encoder_hidden_states", DType::kFloat32, 1}};
    Engines engines;
    engines["encoder"] = MakeIdentityEncoder(encoder_runs);
    engines["decoder"] = MakeEngine([this](const BoundPorts& ports) {
      ++decoder_runs;
      for (std::int64_t row = 0; row < ports.Size("output_ids", 0); ++row) {
        const Tokens text = TextOf(SeenSource(ports, row));
        std::copy(text.begin(), text.end(), ports.Row<TokenId>("output_ids", row).begin());
        ports.Row<std::int64_t>("output_lengths", row)[0] = excess + std::ssize(text);
      }
    });
    generator =
        std::make_unique<Generator>(std::move(bundle), std::move(engines), GeneratorOptions());
  }

  int encoder_runs = 0;
  int decoder_runs = 0;
  int excess = 0;  // What the decoder adds to the lengths it reports.
  std::unique_ptr<Generator> generator;
};

TEST(OneShotLoop, WritesEveryTextInOneRound) {
  Fixture fixture(2);
  const std::vector<Request> requests = {Ask(30, {1, 2, 4, 3}), Ask(30, {9}), Ask(30, {5, 6, 7})};
  const std::vector<Result> results = fixture.generator->Generate(requests, {});
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(results[i].token_ids, TextOf(requests[i].prompt_ids));
    EXPECT_EQ(results[i].finish_reason, FinishReason::kEos);
    EXPECT_EQ(results[i].statistics.rounds, 1);
    EXPECT_EQ(results[i].statistics.prompt_tokens, std::ssize(requests[i].prompt_ids));
  }
  EXPECT_EQ(fixture.encoder_runs, 2);
  EXPECT_EQ(fixture.decoder_runs, 2);
}

TEST(OneShotLoop, CutsAtTheNumberOfTokensAskedFor) {
  Fixture fixture(1);
  const Request request = Ask(4, {1, 2, 3});
  const Result result = fixture.generator->Generate({&request, 1}, {})[0];
  EXPECT_EQ(result.token_ids, (Tokens{2, 2, 3, 3}));
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
}

TEST(OneShotLoop, TextsThatDoNotFitTheCanvasAreRefused) {
  for (int excess : {-7, 24}) {
    Fixture fixture(1);
    fixture.excess = excess;
    const Request request = Ask(30, {1, 2, 3});
    EXPECT_EQ(CodeOf([&] { fixture.generator->Generate({&request, 1}, {}); }), ErrorCode::kBackend);
  }
}

TEST(OneShotLoop, TextMayBeEmpty) {
  Fixture fixture(1);
  const Request request = Ask(4, {4, 8});
  const Result result = fixture.generator->Generate({&request, 1}, {})[0];
  EXPECT_TRUE(result.token_ids.empty());
  EXPECT_EQ(result.finish_reason, FinishReason::kEos);
}

TEST(OneShotLoop, RefusesSourcesThatAreTooLong) {
  Fixture fixture(1);
  const Request request = Ask(4, Tokens(13, 1));
  EXPECT_THROW(fixture.generator->Generate({&request, 1}, {}), Error);
}

TEST(OneShotLoop, SessionReadsItsSourceInParts) {
  Fixture fixture(2);
  SessionHandle session(*fixture.generator);
  session.Append(Tokens{1, 2});
  session.Append(Tokens{3});
  EXPECT_EQ(session.Generate(Ask(30, {}), {}).token_ids, TextOf({1, 2, 3}));
  EXPECT_THROW(session.Append(Tokens{4}), Error);
  session.Reset();
  EXPECT_EQ(session.Generate(Ask(30, {7}), {}).token_ids, TextOf({7}));
}

}  // namespace
}  // namespace ptgc
