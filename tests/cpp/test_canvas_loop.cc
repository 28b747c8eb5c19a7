#include <gtest/gtest.h>

#include <array>

#include "base/error.h"
#include "function_engine.h"
#include "generator_fixture.h"
#include "sampling/random.h"
#include "serving/generator.h"
#include "serving/session_handle.h"
#include "substitute_gpu.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

constexpr TokenId kMask = 99;

// What belongs at a position: a matter of the first token of the text.
TokenId RightToken(TokenId first, std::size_t position) {
  return (first * 7 + static_cast<TokenId>(position) * 3) % 50;
}

Tokens RightTokens(TokenId first, std::size_t begin, std::size_t end) {
  Tokens tokens;
  for (std::size_t i = begin; i < end; ++i) tokens.push_back(RightToken(first, i));
  return tokens;
}

Bundle CanvasBundle(int batch, const CanvasPlan& plan) {
  Bundle bundle;
  bundle.plan.strategy = "masked-diffusion";
  bundle.plan.loop = LoopKind::kCanvas;
  bundle.plan.canvas = plan;
  bundle.model.vocab_size = 100;
  bundle.model.context_length = 64;
  bundle.shapes.batch = batch * (1 + plan.num_draft_steps);
  bundle.shapes.max_length = 48;
  bundle.shapes.roles["denoiser"].canvas_lengths = {16, 48};
  return bundle;
}

// How many of the positions that were offered are masked.
std::int64_t Masked(std::span<const TokenId> ids, std::span<const bool> offered) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) count += offered[i] && ids[i] == kMask ? 1 : 0;
  return count;
}

// Fills from the right, `step` positions of those offered.
struct Fixture {
  Fixture(int batch, const CanvasPlan& plan, bool on_gpu = false) {
    Engines engines;
    engines["denoiser"] = MakeEngine([this](const BoundPorts& ports) { Denoise(ports); });
    if (on_gpu) engines = OnGpu(gpu, std::move(engines));
    generator = std::make_unique<Generator>(CanvasBundle(batch, plan), std::move(engines),
                                            GeneratorOptions());
  }

  void Denoise(const BoundPorts& ports) {
    lengths.push_back(static_cast<int>(ports.Size("input_ids", 1)));
    std::vector<int> filled;
    for (std::int64_t row = 0; row < ports.Size("input_ids", 0); ++row) {
      const auto ids = ports.Row<const TokenId>("input_ids", row);
      const auto offered = ports.Row<const bool>("canvas_mask", row);
      const auto written = ports.Row<TokenId>("output_ids", row);
      std::copy(ids.begin(), ids.end(), written.begin());
      std::int64_t left = ports.Row<const std::int64_t>("step", row)[0];
      const std::int64_t length = ports.Row<const std::int64_t>("lengths", row)[0];
      threshold = ports.Row<const float>("threshold", row)[0];
      if (ports.Has("uniforms")) {
        const auto numbers = ports.Row<const float>("uniforms", row);
        uniforms.emplace_back(numbers.begin(), numbers.end());
        temperatures.push_back(ports.Row<const float>("temperature", row)[0]);
      }
      filled.push_back(static_cast<int>(left));
      std::int64_t rank = 0;
      for (std::size_t i = ids.size(); ports.Has("candidate_ids") && i-- > 0;) {
        // Only the next three are foreseen.
        ports.Row<TokenId>("candidate_ids", row)[i] = rank < 3 ? RightToken(ids[0], i) : 77;
        ports.Row<std::int64_t>("candidate_ranks", row)[i] = offered[i] ? rank++ : 1000;
      }
      for (std::size_t i = ids.size(); i-- > 0;) {
        if (!offered[i]) continue;
        wrong_offers += ids[i] != kMask || static_cast<std::int64_t>(i) >= length ? 1 : 0;
        if (left-- > 0) written[i] = RightToken(ids[0], i);
      }
      ports.Row<std::int64_t>("num_masked", row)[0] = Masked(written, offered);
    }
    steps.push_back(filled);
  }
  Result Write(const Tokens& prompt, int count, const Tokens& eos = {}) {
    Request request = Ask(count, prompt);
    request.eos_token_ids = eos;
    return generator->Generate({&request, 1}, {})[0];
  }

  SubstituteGpu gpu;
  std::vector<int> lengths;             // Of the canvases.
  std::vector<std::vector<int>> steps;  // Positions to be filled, by run and row.
  int wrong_offers = 0;                 // Positions offered that were not masked, or past the end.
  float threshold = 0;                  // The last one.
  std::vector<std::vector<float>> uniforms;  // By run and row.
  std::vector<float> temperatures;           // By run and row.
  std::unique_ptr<Generator> generator;
};

CanvasPlan MakePlan(int num_steps, int block_length) {
  CanvasPlan plan;
  plan.mask_token_id = kMask;
  plan.num_steps = num_steps;
  plan.block_length = block_length;
  return plan;
}

TEST(CanvasLoop, AppendsAndFillsBlockByBlock) {
  Fixture fixture(1, MakePlan(6, 4));
  const Result result = fixture.Write({5, 1, 2}, 10);
  EXPECT_EQ(result.token_ids, RightTokens(5, 3, 13));
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_EQ(result.statistics.prompt_tokens, 3);
  // Three blocks of 4, 4 and 2, two rounds each.
  EXPECT_EQ(fixture.steps, (std::vector<std::vector<int>>{{2}, {2}, {2}, {2}, {1}, {1}}));
  EXPECT_EQ(fixture.lengths, std::vector<int>(6, 16));
  EXPECT_EQ(fixture.wrong_offers, 0);
  EXPECT_EQ(fixture.threshold, 1.0F);
}

TEST(CanvasLoop, HandsOutEveryBlockWhenItIsFilled) {
  Fixture fixture(1, MakePlan(6, 4));
  Request request;
  request.prompt_ids = {5, 1, 2};
  request.max_new_tokens = 10;
  request.trace = true;
  const Result result = fixture.generator->Generate({&request, 1}, {})[0];
  std::vector<std::size_t> emitted;
  for (const TraceRound& round : result.trace) emitted.push_back(round.emitted_ids.size());
  EXPECT_EQ(emitted, (std::vector<std::size_t>{0, 4, 0, 4, 0, 2}));
}

// What stands behind the end is not even filled.
TEST(CanvasLoop, EndsInTheBlockOfTheFirstEndToken) {
  Fixture fixture(1, MakePlan(6, 4));
  const Result result = fixture.Write({5, 1, 2}, 12, {RightToken(5, 8)});
  EXPECT_EQ(result.token_ids, RightTokens(5, 3, 9));
  EXPECT_EQ(result.finish_reason, FinishReason::kEos);
  EXPECT_EQ(fixture.steps.size(), 4U);  // Two blocks of three, in two rounds each.
}

TEST(CanvasLoop, WithoutBlocksTheStepsShareTheWholeText) {
  Fixture fixture(1, MakePlan(3, 0));
  EXPECT_EQ(fixture.Write({5}, 8).token_ids, RightTokens(5, 1, 9));
  EXPECT_EQ(fixture.steps, (std::vector<std::vector<int>>{{3}, {3}, {2}}));
}

TEST(CanvasLoop, HandsTheThresholdOn) {
  CanvasPlan plan = MakePlan(2, 0);
  plan.policy.threshold = 0.75;
  Fixture fixture(1, plan);
  fixture.Write({5}, 4);
  EXPECT_EQ(fixture.threshold, 0.75F);
}

TEST(CanvasLoop, RequestsHaveTheirOwnStepsAndThresholds) {
  CanvasPlan plan = MakePlan(2, 0);
  plan.policy.threshold = 0.75;
  Fixture fixture(3, plan);
  std::vector<Request> requests(3, Ask(12, {5}));
  requests[1].canvas.num_steps = 4;
  requests[2].canvas = {1, 0.5};
  for (const Result& result : fixture.generator->Generate(requests, {})) {
    EXPECT_EQ(result.token_ids, RightTokens(5, 1, 13));
  }
  EXPECT_EQ(fixture.steps,
            (std::vector<std::vector<int>>{{6, 3, 12}, {6, 3, 0}, {0, 3, 0}, {0, 3, 0}}));
  Fixture alone(1, plan);
  alone.generator->Generate({&requests[2], 1}, {});
  EXPECT_EQ(alone.threshold, 0.5F);
}

TEST(CanvasLoop, FillsByTheScheduleOfItsPlan) {
  CanvasPlan plan = MakePlan(4, 0);
  plan.schedule = Schedule::kCosine;
  Fixture cosine(1, plan);
  cosine.Write({5}, 10);
  // cos(pi i / 8) of 10 stay masked: 9, 7, 3, 0.
  EXPECT_EQ(cosine.steps, (std::vector<std::vector<int>>{{1}, {2}, {4}, {3}}));
  plan = MakePlan(3, 4);
  plan.schedule = Schedule::kPerBlock;
  Fixture per_block(1, plan);
  per_block.Write({5}, 9);
  // Blocks of 4, 4 and 1; a whole block takes 2, 1 and 1.
  EXPECT_EQ(per_block.steps, (std::vector<std::vector<int>>{{2}, {1}, {1}, {2}, {1}, {1}, {1}}));
}

// The numbers of a text depend on its seed alone, not on the rows beside it.
TEST(CanvasLoop, GivesEveryPositionAndRoundItsOwnNumbers) {
  CanvasPlan plan = MakePlan(2, 0);
  plan.policy.is_sampled = true;
  Fixture fixture(3, plan);
  std::vector<Request> requests(3, Ask(4, {5, 1}));
  for (std::size_t i = 0; i < 3; ++i) {
    requests[i].sampling.seed = i << 40;
    requests[i].sampling.temperature = 0.5;
  }
  fixture.generator->Generate(requests, {});
  ASSERT_EQ(fixture.uniforms.size(), 6U);
  for (std::size_t run = 0; run < 6; ++run) {
    EXPECT_EQ(fixture.temperatures[run], 0.5F);
    for (std::size_t position = 0; position < 16; ++position) {
      const auto words = PhiloxAt((run % 3) << 40, static_cast<std::int64_t>(position),
                                  RandomStream::kCanvas, static_cast<std::uint32_t>(run / 3));
      for (std::size_t k = 0; k < 2; ++k) {
        const bool offered = position >= 2 && position < 6;
        const float expected = offered ? static_cast<float>(words[k] >> 9) * 0x1p-23F : 0.0F;
        EXPECT_EQ(fixture.uniforms[run][2 * position + k], expected);
      }
    }
  }
}

TEST(CanvasLoop, RefusesOptionsThatThePolicyDoesNotHave) {
  CanvasPlan plan = MakePlan(2, 0);
  plan.policy.kind = PolicyKind::kEntropy;
  Fixture fixture(1, plan);
  const auto refusal = [&](const CanvasOptions& canvas, const SamplingOptions& sampling = {}) {
    Request request = Ask(3, {5});
    request.canvas = canvas;
    request.sampling = sampling;
    try {
      fixture.generator->Generate({&request, 1}, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      return error.message();
    }
    return std::string();
  };
  EXPECT_EQ(refusal({3, 2.5}), "");
  EXPECT_NE(refusal({-1, -0.5}).find("num_steps is -1"), std::string::npos);
  EXPECT_NE(refusal({-1, -0.5}).find("takes one from 0 to 1000"), std::string::npos);
  EXPECT_NE(refusal({}, {.temperature = 0.5}).find("exported without --sampling"),
            std::string::npos);
  EXPECT_NE(refusal({}, {.presence_penalty = 1}).find("no penalties"), std::string::npos);
  EXPECT_NE(refusal({}, {.temperature = 1, .min_p = 0.5}).find("without top_k"), std::string::npos);
}

TEST(CanvasLoop, TracesWhatEveryRoundFills) {
  Fixture fixture(1, MakePlan(2, 0));
  Request request = Ask(0, {5, kMask, 7, kMask});
  request.trace = true;
  const std::vector<TraceRound> trace = fixture.generator->Generate({&request, 1}, {})[0].trace;
  ASSERT_EQ(trace.size(), 2U);
  EXPECT_EQ(trace[0].filled_positions, std::vector<int>{3});
  EXPECT_EQ(trace[0].filled_ids, Tokens{RightToken(5, 3)});
  EXPECT_EQ(trace[1].filled_positions, std::vector<int>{1});
}

TEST(CanvasLoop, TakesDraftedStepsUpToTheFirstThatIsWrong) {
  CanvasPlan plan = MakePlan(12, 0);
  plan.num_draft_steps = 3;
  Fixture fixture(2, plan);
  std::vector<Request> requests = {Ask(12, {5}), Ask(12, {8, 1})};
  for (Request& request : requests) request.trace = true;
  requests[1].plain = true;
  const std::vector<Result> results = fixture.generator->Generate(requests, {});
  EXPECT_EQ(results[0].token_ids, RightTokens(5, 1, 13));
  EXPECT_EQ(results[1].token_ids, RightTokens(8, 2, 14));
  std::vector<std::size_t> filled;
  for (const TraceRound& round : results[0].trace) filled.push_back(round.filled_positions.size());
  EXPECT_EQ(filled, (std::vector<std::size_t>{1, 3, 3, 3, 2}));
  EXPECT_EQ(results[0].statistics.rounds, 5);
  EXPECT_EQ(results[0].statistics.plain_rounds, 1);
  EXPECT_EQ(results[0].statistics.drafted_tokens, 10);
  EXPECT_EQ(results[0].statistics.accepted_tokens, 7);
  EXPECT_EQ(results[1].statistics.rounds, 12);
  EXPECT_EQ(results[1].statistics.drafted_tokens, 0);
  EXPECT_EQ(fixture.wrong_offers, 0);
}

TEST(CanvasLoop, FillsInAPromptThatHasMasks) {
  Fixture fixture(1, MakePlan(2, 0));
  const Result result = fixture.Write({5, 1, kMask, 2, kMask, kMask, 3}, 0);
  EXPECT_EQ(result.token_ids, (Tokens{RightToken(5, 2), 2, RightToken(5, 4), RightToken(5, 5), 3}));
  EXPECT_EQ(result.finish_reason, FinishReason::kEos);
}

TEST(CanvasLoop, EndsBehindTheFirstEndToken) {
  Fixture fixture(1, MakePlan(2, 0));
  const Result result = fixture.Write({5, 1}, 12, {RightToken(5, 6)});
  EXPECT_EQ(result.token_ids, RightTokens(5, 2, 7));
  EXPECT_EQ(result.finish_reason, FinishReason::kEos);
}

TEST(CanvasLoop, RaggedTextsShareRounds) {
  Fixture fixture(3, MakePlan(4, 5));
  std::vector<Request> requests(7);
  for (std::size_t i = 0; i < 7; ++i) {
    requests[i].prompt_ids.assign(1 + i, static_cast<TokenId>(i + 1));
    requests[i].max_new_tokens = static_cast<int>(3 + 6 * i);
  }
  const std::vector<Result> results = fixture.generator->Generate(requests, {});
  for (std::size_t i = 0; i < 7; ++i) {
    EXPECT_EQ(results[i].token_ids,
              RightTokens(static_cast<TokenId>(i + 1), 1 + i, 1 + i + 3 + 6 * i));
  }
  EXPECT_EQ(fixture.wrong_offers, 0);
  EXPECT_EQ(std::count(fixture.lengths.begin(), fixture.lengths.end(), 16) +
                std::count(fixture.lengths.begin(), fixture.lengths.end(), 48),
            std::ssize(fixture.lengths));
  EXPECT_EQ(fixture.lengths.front(), 48);  // 3 + 15 tokens.
}

TEST(CanvasLoop, SessionGoesOnBehindItsText) {
  Fixture fixture(2, MakePlan(2, 0));
  SessionHandle session(*fixture.generator);
  Request request;
  request.prompt_ids = {5, 1};
  request.max_new_tokens = 6;
  session.Generate(request, {});
  request.prompt_ids = {};
  EXPECT_EQ(session.Generate(request, {}).token_ids, RightTokens(5, 8, 14));
  session.Rewind(3);
  const std::unique_ptr<SessionHandle> fork = session.Fork();
  EXPECT_EQ(fork->Generate(request, {}).token_ids, RightTokens(5, 11, 17));
  EXPECT_EQ(session.Length(), 11);
}

TEST(CanvasLoop, RefusesSamplingAndForeignCanvases) {
  Fixture fixture(1, MakePlan(2, 0));
  Request request;
  request.prompt_ids = {5};
  request.max_new_tokens = 3;
  request.sampling.temperature = 0.5;
  EXPECT_THROW(fixture.generator->Generate({&request, 1}, {}), Error);
  EXPECT_EQ(fixture.generator->Measure({.role = "denoiser", .num_tokens = 16, .repeats = 2}).size(),
            2U);
  EXPECT_THROW(fixture.generator->Measure({.role = "denoiser", .num_tokens = 17}), Error);
}

TEST(CanvasLoop, WritesTheSameOnAGpu) {
  Fixture fixture(2, MakePlan(6, 4), /*on_gpu=*/true);
  EXPECT_EQ(fixture.Write({5, 1, 2}, 10).token_ids, RightTokens(5, 3, 13));
  EXPECT_EQ(fixture.Write({7}, 30).token_ids, RightTokens(7, 1, 31));
  EXPECT_EQ(fixture.wrong_offers, 0);
  EXPECT_EQ(fixture.gpu.runs, fixture.gpu.launches + 2);  // The first of each length.
  fixture.generator->Close();
  EXPECT_EQ(fixture.gpu.live_pins, 0);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

// Fills from the left, and shows what a run read of each row and what its first row sees.
struct BlockFixture {
  explicit BlockFixture(int batch, std::vector<int> widths = {4, 8, 16},
                        CanvasStop stop = CanvasStop::kBlock) {
    CanvasPlan plan = MakePlan(6, 4);
    plan.stop = stop;
    plan.cache = CanvasCache::kBlock;
    Bundle bundle = CanvasBundle(batch, plan);
    RoleShapes& shapes = bundle.shapes.roles["denoiser"];
    shapes = {};
    shapes.kv_capacities = {48 + widths.back()};
    shapes.verify_width = 4;
    shapes.widths = std::move(widths);
    Role& role = bundle.roles["denoiser"];
    role.attention = AttentionKind::kBlock;
    role.states.resize(1);
    role.states[0].kv_heads = 1;
    role.states[0].head_dim = 1;
    Engines engines;
    engines["denoiser"] = MakeEngine([this](const BoundPorts& ports) { Denoise(ports); });
    generator =
        std::make_unique<Generator>(std::move(bundle), std::move(engines), GeneratorOptions());
  }

  // The cache keeps the token of every slot: what is seen must be the text before.
  void Denoise(const BoundPorts& ports) {
    std::vector<std::array<int, 2>> runs;
    for (std::int64_t row = 0; row < ports.Size("input_ids", 0); ++row) {
      const auto ids = ports.Row<const TokenId>("input_ids", row);
      const auto mask = ports.Row<const bool>("tree_mask", row);
      const auto offered = ports.Row<const bool>("canvas_mask", row);
      const auto cache = ports.Row<float>("present.0.key", row);
      const auto columns = ports.Row<const TokenId>("column_ids", row);
      const auto column_rows = ports.Row<const std::int64_t>("logits_rows", row);
      const auto written = ports.Row<TokenId>("output_ids", row);
      const auto first =
          static_cast<std::size_t>(ports.Row<const std::int64_t>("write_index", row)[0]);
      const auto count =
          static_cast<std::size_t>(ports.Row<const std::int64_t>("row_count", row)[0]);
      std::copy(columns.begin(), columns.end(), written.begin());
      for (std::size_t i = 0; i < ids.size(); ++i) {
        for (std::size_t j = 0; j < ids.size(); ++j) {
          const bool sees = i < count && j < count ? j / 4 <= i / 4 : i == j;
          wrong_masks += mask[i * ids.size() + j] != sees ? 1 : 0;
        }
        cache[first + i] = i < count ? static_cast<float>(ids[i]) : -1.0F;
      }
      runs.push_back({static_cast<int>(first), static_cast<int>(count)});
      std::int64_t left = ports.Row<const std::int64_t>("step", row)[0];
      for (std::size_t column = 0; column < columns.size(); ++column) {
        if (!offered[column]) continue;
        const auto i = static_cast<std::size_t>(column_rows[column]);
        wrong_columns += i >= count || columns[column] != ids[i] ? 1 : 0;
        for (std::size_t slot = 0; slot < first + i / 4 * 4; ++slot) {
          wrong_slots += cache[slot] < 0.0F || cache[slot] == static_cast<float>(kMask) ? 1 : 0;
        }
        if (left-- > 0) {
          written[column] = RightToken(static_cast<TokenId>(cache[0]), first + i);
        }
      }
      ports.Row<std::int64_t>("num_masked", row)[0] = Masked(written, offered);
    }
    read.push_back(runs);
  }
  Result Write(const Tokens& prompt, int count, const Tokens& eos = {}) {
    Request request = Ask(count, prompt);
    request.eos_token_ids = eos;
    return generator->Generate({&request, 1}, {})[0];
  }

  std::vector<std::vector<std::array<int, 2>>> read;  // First slot and rows, by run and row.
  int wrong_masks = 0;                                // Rows that see others than they should.
  int wrong_slots = 0;    // Slots that are seen and hold no token of the text.
  int wrong_columns = 0;  // Columns whose row is padding or holds another token.
  std::unique_ptr<Generator> generator;
};

using Reads = std::vector<std::vector<std::array<int, 2>>>;

// A block gets into the cache with the first round of the next. The last one is filled whole.
TEST(CanvasLoop, ReadsABlockIntoTheCacheWhenItIsWhole) {
  BlockFixture fixture(1);
  EXPECT_EQ(fixture.Write({5, 1, 2, 3, 4, 6}, 8).token_ids, RightTokens(5, 6, 14));
  // The prompt's first block, and the one that holds its end; then two more.
  EXPECT_EQ(fixture.read, (Reads{{{0, 8}}, {{4, 4}}, {{4, 8}}, {{8, 4}}, {{8, 8}}, {{12, 4}}}));
  EXPECT_EQ(fixture.wrong_masks, 0);
  EXPECT_EQ(fixture.wrong_slots, 0);
  EXPECT_EQ(fixture.wrong_columns, 0);
}

// The first of two rounds of a block fills its first two positions.
TEST(CanvasLoop, MayEndAtAnEndTokenWithNoMaskBeforeIt) {
  for (const auto& [stop, rounds] : {std::pair(CanvasStop::kBlock, 4), {CanvasStop::kEos, 3}}) {
    BlockFixture fixture(1, {4, 8, 16}, stop);
    const Result result = fixture.Write({5, 1, 2, 3}, 12, {RightToken(5, 9)});
    EXPECT_EQ(result.token_ids, RightTokens(5, 4, 10));
    EXPECT_EQ(result.finish_reason, FinishReason::kEos);
    EXPECT_EQ(fixture.read.size(), static_cast<std::size_t>(rounds));
  }
  Fixture from_the_right(1, MakePlan(2, 0));
  EXPECT_EQ(from_the_right.Write({5}, 8, {RightToken(5, 6)}).token_ids, RightTokens(5, 1, 7));
  EXPECT_EQ(from_the_right.steps.size(), 2U);
}

TEST(CanvasLoop, ReadsALongPromptByWholeBlocks) {
  BlockFixture fixture(1, {4, 8});
  const Tokens prompt(19, 7);
  EXPECT_EQ(fixture.Write(prompt, 5).token_ids, RightTokens(7, 19, 24));
  EXPECT_EQ(fixture.read, (Reads{{{0, 8}}, {{8, 8}}, {{16, 4}}, {{16, 8}}, {{20, 4}}, {{20, 4}}}));
  EXPECT_EQ(fixture.wrong_masks, 0);
  EXPECT_EQ(fixture.wrong_slots, 0);
  EXPECT_EQ(fixture.wrong_columns, 0);
}

TEST(CanvasLoop, RaggedTextsShareRoundsOverACacheOfBlocks) {
  BlockFixture fixture(3);
  std::vector<Request> requests(7);
  for (std::size_t i = 0; i < 7; ++i) {
    requests[i].prompt_ids.assign(1 + 3 * i, static_cast<TokenId>(i + 1));
    requests[i].max_new_tokens = static_cast<int>(3 + 4 * i);
  }
  const std::vector<Result> results = fixture.generator->Generate(requests, {});
  for (std::size_t i = 0; i < 7; ++i) {
    const std::size_t begin = 1 + 3 * i;
    EXPECT_EQ(results[i].token_ids,
              RightTokens(static_cast<TokenId>(i + 1), begin, begin + 3 + 4 * i));
  }
  EXPECT_EQ(fixture.wrong_masks, 0);
  EXPECT_EQ(fixture.wrong_slots, 0);
  EXPECT_EQ(fixture.wrong_columns, 0);
}

TEST(CanvasLoop, SessionsKeepTheirBlocks) {
  BlockFixture fixture(2);
  SessionHandle session(*fixture.generator);
  Request request;
  request.prompt_ids = {5, 1};
  request.max_new_tokens = 8;
  session.Generate(request, {});
  fixture.read.clear();
  request.prompt_ids = {};
  request.max_new_tokens = 2;
  EXPECT_EQ(session.Generate(request, {}).token_ids, RightTokens(5, 10, 12));
  EXPECT_EQ(fixture.read.front()[0], (std::array<int, 2>{8, 4}));  // Two blocks were kept.
  fixture.Write({9}, 12);                                          // Beside it.
  const std::unique_ptr<SessionHandle> fork = session.Fork();
  EXPECT_EQ(fork->Generate(request, {}).token_ids, RightTokens(5, 12, 14));
  session.Rewind(9);
  EXPECT_EQ(session.Generate(request, {}).token_ids, RightTokens(5, 3, 5));
  EXPECT_EQ(fixture.wrong_slots, 0);
  EXPECT_EQ(fixture.wrong_columns, 0);
  EXPECT_EQ(fixture.wrong_masks, 0);
}

TEST(CanvasLoop, MeasuresRoundsOverACacheOfBlocks) {
  BlockFixture fixture(1);
  const EngineRuns runs{.role = "denoiser", .num_tokens = 8, .past_length = 20, .repeats = 2};
  EXPECT_EQ(fixture.generator->Measure(runs).size(), 2U);
  EXPECT_EQ(fixture.read.back()[0], (std::array<int, 2>{20, 8}));
  EXPECT_THROW(fixture.generator->Measure({.role = "denoiser", .num_tokens = 5}), Error);
}

// A denoiser of another plan, or a damaged one: the text would never end.
TEST(CanvasLoop, ADenoiserThatLeavesPositionsMaskedIsAnError) {
  CanvasPlan plan;
  plan.mask_token_id = kMask;
  plan.num_steps = 4;
  Engines engines;
  engines["denoiser"] = MakeEngine([](const BoundPorts& ports) {
    const auto ids = ports.Row<const TokenId>("input_ids", 0);
    std::copy(ids.begin(), ids.end(), ports.Row<TokenId>("output_ids", 0).begin());
  });
  Generator generator(CanvasBundle(1, plan), std::move(engines), GeneratorOptions());
  Request request;
  request.prompt_ids = {1, 2};
  request.max_new_tokens = 8;
  try {
    generator.Generate({&request, 1}, {});
    FAIL() << "The text should not have ended well.";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBackend);
  }
}

}  // namespace
}  // namespace ptgc
