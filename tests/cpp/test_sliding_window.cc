// Caches that slide, under everything that a generator does with texts.
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "function_engine.h"
#include "language.h"
#include "serving/generator.h"
#include "serving/session_handle.h"
#include "substitute_engine.h"
#include "substitute_gpu.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

constexpr int kWindow = 20;
constexpr std::int64_t kCapacity = 40;  // kWindow - 1, the widest round of 16, and a few.

// The next token, a matter of the last kWindow ones.
TokenId Next(const Tokens& text) {
  const std::size_t seen = std::min<std::size_t>(text.size(), kWindow);
  return NextToken(std::span(text).last(seen));
}

Tokens Written(Tokens text, int count) {
  for (int i = 0; i < count; ++i) text.push_back(Next(text));
  return {text.end() - count, text.end()};
}

// Keeps token ids in the keys and positions in the values of one layer that slides, the drafter's
// alone where there is one: slot s of a row holds position s + window_offset.
struct Fixture {
  explicit Fixture(int batch, bool on_gpu = false, const DrafterPlan& plan = NgramPlan()) {
    Bundle bundle = SubstituteBundle(batch, plan);
    Engines engines;
    for (auto& [name, role] : bundle.roles) {
      bundle.shapes.roles.at(name).window_capacities[kWindow] = static_cast<int>(kCapacity);
      const bool is_drafter = name == "drafter";
      if (is_drafter || plan.kind != "model") {
        role.states.at(0).window = kWindow;
        role.states.at(0).kind = StateKind::kWindow;
      }
      engines[name] = MakeEngine([this, is_drafter](const BoundPorts& ports) {
        for (std::int64_t row = 0; row < ports.Size("input_ids", 0); ++row) {
          Run(ports, row, is_drafter);
        }
      });
    }
    if (on_gpu) engines = OnGpu(gpu, std::move(engines));
    generator =
        std::make_unique<Generator>(std::move(bundle), std::move(engines), GeneratorOptions());
  }

  // A drafter errs at every third position.
  void Run(const BoundPorts& ports, std::int64_t row, bool is_drafter) {
    const auto ids = ports.Row<const TokenId>("input_ids", row);
    const auto positions = ports.Row<const std::int64_t>("position_ids", row);
    const auto keys = ports.Row<float>("past_key_values.0.key", row);
    const auto values = ports.Row<float>("past_key_values.0.value", row);
    const std::int64_t offset = ports.Row<const std::int64_t>("window_offset", row)[0];
    const std::int64_t first = ports.Row<const std::int64_t>("write_index", row)[0] - offset;
    const std::int64_t count = ports.Row<const std::int64_t>("row_count", row)[0];
    tokens_read += count;
    slid = slid || offset > 0;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const std::size_t slot = static_cast<std::size_t>(first) + t;
      if (first < 0 || slot >= keys.size()) {
        ++out_of_bounds;
        return;
      }
      const bool valid = static_cast<std::int64_t>(t) < count;
      if (valid && !is_drafter) {
        moved_positions += offsets.try_emplace(positions[t], offset).first->second != offset;
      }
      keys[slot] = valid ? static_cast<float>(ids[t]) : -777.0F;
      values[slot] = static_cast<float>(positions[t]);
    }
    const auto rows = ports.Row<const std::int64_t>("logits_rows", row);
    const auto next = ports.Row<TokenId>("next_ids", row);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      next[r] = rows[r] < count ? Speak(keys, values, first + rows[r]) : -1;
      const bool errs =
          is_drafter && rows[r] < count && positions[static_cast<std::size_t>(rows[r])] % 3 == 0;
      if (errs) next[r] = (next[r] + 1) % kVocabSize;
    }
  }

  // Chains only: a slot sees those before it, as far as the window reaches.
  TokenId Speak(std::span<const float> keys, std::span<const float> values, std::int64_t slot) {
    const std::int64_t position = static_cast<std::int64_t>(values[static_cast<std::size_t>(slot)]);
    const std::int64_t length = std::min<std::int64_t>(position + 1, kWindow);
    Tokens text;
    for (std::int64_t at = slot - length + 1; at <= slot; ++at) {
      const bool held =
          at >= 0 && keys[static_cast<std::size_t>(at)] >= 0 &&
          values[static_cast<std::size_t>(at)] == static_cast<float>(position - (slot - at));
      if (!held) ++broken_texts;
      text.push_back(held ? static_cast<TokenId>(keys[static_cast<std::size_t>(at)]) : 0);
    }
    return NextToken(text);
  }

  Result Write(SessionHandle& session, const Tokens& prompt, int count) {
    Request request;
    request.prompt_ids = prompt;
    request.max_new_tokens = count;
    return session.Generate(request, {});
  }

  SubstituteGpu gpu;
  std::int64_t tokens_read = 0;                  // Text and drafts that went through the engine.
  bool slid = false;                             // Whether any cache has.
  std::map<std::int64_t, std::int64_t> offsets;  // By position, of the first row computed there.
  int moved_positions = 0;                       // Rows that were computed at another offset.
  int out_of_bounds = 0;                         // Rows that did not fit the cache.
  int broken_texts = 0;  // Positions that were to be seen and were not there.
  std::unique_ptr<Generator> generator;
};

// Texts of several lengths, one of them plain, are those of the window, and each position of them
// was computed at one offset.
void ExpectTextsOfTheWindow(Fixture& fixture) {
  std::vector<Request> requests(6);
  for (std::size_t i = 0; i < 6; ++i) {
    requests[i].prompt_ids = MakePrompt(2 + static_cast<int>(i) * 11, static_cast<int>(i));
    requests[i].max_new_tokens = 60;
    requests[i].plain = i == 3;
  }
  const std::vector<Result> results = fixture.generator->Generate(requests, {});
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(results[i].token_ids, Written(requests[i].prompt_ids, 60));
  }
  EXPECT_TRUE(fixture.slid);
  EXPECT_EQ(fixture.moved_positions, 0);
  EXPECT_EQ(fixture.broken_texts, 0);
  EXPECT_EQ(fixture.out_of_bounds, 0);
  EXPECT_EQ(fixture.gpu.violations, 0);
}

class SlidingWindow : public testing::TestWithParam<std::tuple<int, bool>> {};

TEST_P(SlidingWindow, TextsAreThoseOfTheWindow) {
  const auto [batch, on_gpu] = GetParam();
  Fixture fixture(batch, on_gpu);
  ExpectTextsOfTheWindow(fixture);
  EXPECT_EQ(fixture.gpu.launches > 0, on_gpu);
}

// A drafter's cache does not slide behind drafts that the target may refuse.
TEST_P(SlidingWindow, DrafterSeesItsWindow) {
  const auto [batch, on_gpu] = GetParam();
  Fixture fixture(batch, on_gpu, ModelPlan(5));
  ExpectTextsOfTheWindow(fixture);
}

INSTANTIATE_TEST_SUITE_P(Batches, SlidingWindow,
                         testing::Combine(testing::Values(1, 3), testing::Bool()));

// What slid out of a cache is read again where a shorter text would see it.
TEST(SlidingWindow, RewoundTextIsReadAgainWhereItMustBe) {
  Fixture fixture(2, /*on_gpu=*/true);
  SessionHandle session(*fixture.generator);
  const Tokens prompt = MakePrompt(30, 1);
  Tokens text = prompt;
  const Tokens once = fixture.Write(session, prompt, 70).token_ids;
  EXPECT_EQ(once, Written(prompt, 70));
  for (int count : {1, 5, 60}) {
    session.Rewind(count);
    EXPECT_EQ(fixture.Write(session, {}, count).token_ids, Tokens(once.end() - count, once.end()));
  }
  EXPECT_EQ(fixture.broken_texts, 0);
  EXPECT_EQ(fixture.out_of_bounds, 0);
}

TEST(SlidingWindow, TextRewoundToItsFirstTokenIsReadFromThere) {
  Fixture fixture(2);
  SessionHandle session(*fixture.generator);
  const Tokens prompt = MakePrompt(30, 1);
  const Tokens once = fixture.Write(session, prompt, 70).token_ids;
  session.Rewind(99);
  EXPECT_EQ(fixture.Write(session, {prompt.begin() + 1, prompt.end()}, 70).token_ids, once);
  EXPECT_EQ(fixture.broken_texts, 0);
  EXPECT_EQ(fixture.out_of_bounds, 0);
}

TEST(SlidingWindow, ForkReadsNothingAgain) {
  Fixture fixture(2);
  SessionHandle session(*fixture.generator);
  Tokens text = MakePrompt(30, 2);
  const Tokens more = fixture.Write(session, text, 50).token_ids;
  text.insert(text.end(), more.begin(), more.end());
  const std::unique_ptr<SessionHandle> fork = session.Fork();
  const std::int64_t read = fixture.tokens_read;
  Tokens other = text;
  other.push_back(5);
  EXPECT_EQ(fixture.Write(*fork, {5}, 1).token_ids, Written(other, 1));
  EXPECT_LE(fixture.tokens_read, read + 2);
  EXPECT_EQ(fixture.Write(*fork, {}, 20).token_ids.size(), 20U);
  EXPECT_EQ(fixture.Write(session, {}, 20).token_ids, Written(text, 20));
  EXPECT_EQ(fixture.broken_texts, 0);
}

}  // namespace
}  // namespace ptgc
