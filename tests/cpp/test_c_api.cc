#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <limits>

#include "base/error.h"
#include "base/names.h"
#include "c_api_fixture.h"
#include "status.h"

namespace ptgc::capi {
namespace {

// Everything that a callback hears.
struct Heard {
  std::vector<Tokens> texts = std::vector<Tokens>(8);  // By request.
  std::size_t stop_after = 1000;                       // End a text that is as long.
};

int32_t Hear(void* user_data, const ptgc_chunk* chunk) {
  auto& heard = *static_cast<Heard*>(user_data);
  Tokens& text = heard.texts[chunk->index];
  EXPECT_EQ(chunk->struct_size, sizeof(ptgc_chunk));
  EXPECT_EQ(chunk->position, text.size());
  text.insert(text.end(), chunk->token_ids, chunk->token_ids + chunk->num_tokens);
  return text.size() >= heard.stop_after ? PTGC_STOP : PTGC_CONTINUE;
}

TEST(CApi, VersionsAgree) {
  const std::string version = std::to_string(PTGC_VERSION_MAJOR) + "." +
                              std::to_string(PTGC_VERSION_MINOR) + "." +
                              std::to_string(PTGC_VERSION_PATCH);
  EXPECT_EQ(version, PTGC_VERSION);
  EXPECT_EQ(version, ptgc_version());
  EXPECT_EQ(ptgc_api_version(), PTGC_API_VERSION);
}

TEST(CApi, StatusesAreTheCoresErrorCodes) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) {
    const ptgc_status status = StatusOf(static_cast<ErrorCode>(code));
    EXPECT_EQ(ptgc_status_name(status), Name(static_cast<ErrorCode>(code)));
  }
  EXPECT_STREQ(ptgc_status_name(PTGC_OK), "ok");
  EXPECT_STREQ(ptgc_status_name(-1), "unknown");
  EXPECT_STREQ(ptgc_status_name(PTGC_ERROR_ENGINE_STALE + 1), "unknown");
}

TEST(CApi, FinishReasonsHaveTheCoresNames) {
  for (std::size_t i = 0; i < Names<FinishReason>::kAll.size(); ++i) {
    EXPECT_EQ(ptgc_finish_reason_name(static_cast<int>(i)), Names<FinishReason>::kAll[i]);
  }
  EXPECT_STREQ(ptgc_finish_reason_name(5), "unknown");
}

// Version 1 is frozen: a caller compiled with it has structs of these sizes.
TEST(CApi, StructsOfVersionOneKeepTheirLayout) {
  static_assert(
      sizeof(void*) != 8 ||
      (offsetof(ptgc_load_options, overlap) == 84 && offsetof(ptgc_load_options, drafter) == 88 &&
       offsetof(ptgc_load_options, datastore) == 96 &&
       offsetof(ptgc_generator_info, load_seconds) == 96 && offsetof(ptgc_sampling, top_k) == 84 &&
       offsetof(ptgc_request, plain) == 84 && offsetof(ptgc_chunk, num_tokens) == 32 &&
       offsetof(ptgc_statistics, peak_memory_bytes) == 128));
}

TEST(CApi, DescribesWhatIsLoaded) {
  const CApiFixture fixture(3);
  ptgc_session* session = fixture.OpenSession();
  ptgc_generator_info info = PTGC_GENERATOR_INFO_INIT;
  ASSERT_EQ(ptgc_generator_get_info(fixture.generator, &info), PTGC_OK);
  EXPECT_STREQ(info.strategy, "ngram");
  EXPECT_STREQ(info.guarantee, "lossless");
  EXPECT_STREQ(info.backend, "substitute");
  EXPECT_EQ(info.vocab_size, kVocabSize);
  EXPECT_EQ(info.max_length, 128);
  EXPECT_EQ(info.batch_size, 3);
  EXPECT_EQ(info.free_rows, 2);
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

TEST(CApi, WritesBatchesThatItsCallbackHears) {
  const CApiFixture fixture(2);
  std::vector<Tokens> prompts;
  for (int i = 0; i < 5; ++i) prompts.push_back(MakePrompt(4 + i, i));
  std::vector<ptgc_request> requests;
  std::vector<const ptgc_request*> pointers;
  for (const Tokens& prompt : prompts) requests.push_back(Ask(prompt, 20));
  for (const ptgc_request& request : requests) pointers.push_back(&request);
  std::vector<ptgc_result*> results(5);
  Heard heard;
  ASSERT_EQ(
      ptgc_generator_generate(fixture.generator, pointers.data(), 5, &Hear, &heard, results.data()),
      PTGC_OK)
      << ptgc_last_error_message();
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(ReasonOf(results[i]), PTGC_FINISH_LENGTH);
    EXPECT_EQ(heard.texts[i], Continuation(prompts[i], 20));
    EXPECT_EQ(TakeTokens(results[i]), heard.texts[i]);
  }
  EXPECT_EQ(ptgc_generator_generate(fixture.generator, nullptr, 0, nullptr, nullptr, nullptr),
            PTGC_OK);
}

TEST(CApi, StatisticsAreTheCores) {
  const CApiFixture fixture(1);
  const Tokens prompt = MakePrompt(40, 1);
  const ptgc_request request = Ask(prompt, 60);
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, nullptr, nullptr, &result),
            PTGC_OK);
  ptgc_statistics statistics = PTGC_STATISTICS_INIT;
  ASSERT_EQ(ptgc_result_get_statistics(result, &statistics), PTGC_OK);
  EXPECT_EQ(statistics.prompt_tokens, 40);
  EXPECT_EQ(statistics.new_tokens, 60);
  EXPECT_EQ(statistics.new_tokens - 1, statistics.rounds + statistics.accepted_tokens);
  EXPECT_EQ(statistics.fallback_reason, nullptr);
  EXPECT_GT(statistics.accept_seconds, 0);
  EXPECT_LE(statistics.accept_seconds + statistics.commit_seconds, statistics.decode_seconds);
  const ptgc_draft_count* counts = nullptr;
  std::size_t count = 0;
  ASSERT_EQ(ptgc_result_get_draft_counts(result, &counts, &count), PTGC_OK);
  std::int64_t accepted = 0;
  for (std::size_t i = 0; i < count; ++i) accepted += counts[i].accepted;
  EXPECT_EQ(accepted, statistics.accepted_tokens);
  std::uint64_t seed = 1;
  EXPECT_EQ(ptgc_result_get_seed(result, &seed), PTGC_OK);
  EXPECT_EQ(seed, 0U);
  EXPECT_EQ(ptgc_result_free(result), PTGC_OK);
}

TEST(CApi, CallbackEndsItsText) {
  const CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  const Tokens prompt = MakePrompt(6, 1);
  const ptgc_request request = Ask(prompt, 60);
  Heard heard;
  heard.stop_after = 10;
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_session_generate(session, &request, &Hear, &heard, &result), PTGC_OK);
  EXPECT_EQ(ReasonOf(result), PTGC_FINISH_STOP);
  EXPECT_EQ(TakeTokens(result), heard.texts[0]);
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

TEST(CApi, StopSequenceEndsTheTextAndIsNoPartOfIt) {
  const CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  const Tokens prompt = MakePrompt(6, 3);
  const Tokens text = Continuation(prompt, 60);
  const Tokens stop(text.begin() + 20, text.begin() + 23);
  const auto begin = std::search(text.begin(), text.end(), stop.begin(), stop.end());
  const Tokens before(text.begin(), begin);
  const ptgc_token_sequence sequence = {stop.data(), stop.size()};
  ptgc_request request = Ask(prompt, 60);
  request.stop_sequences = &sequence;
  request.num_stop_sequences = 1;
  Heard heard;
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_session_generate(session, &request, &Hear, &heard, &result), PTGC_OK);
  EXPECT_EQ(ReasonOf(result), PTGC_FINISH_STOP);
  EXPECT_EQ(TakeTokens(result), before);
  EXPECT_EQ(heard.texts[0], before);
  size_t length = 0;
  EXPECT_EQ(ptgc_session_get_length(session, &length), PTGC_OK);
  EXPECT_EQ(length, prompt.size() + before.size());
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

TEST(CApi, HeldBackTokensAreHandedOnAtTheEnd) {
  const CApiFixture fixture(1);
  const Tokens prompt = MakePrompt(6, 3);
  const Tokens text = Continuation(prompt, 30);
  TokenId unwritten = 0;
  while (std::find(text.begin(), text.end(), unwritten) != text.end()) ++unwritten;
  ASSERT_LT(unwritten, kVocabSize);
  const Tokens stop = {text[29], unwritten};
  const ptgc_token_sequence sequence = {stop.data(), stop.size()};
  ptgc_request request = Ask(prompt, 30);
  request.stop_sequences = &sequence;
  request.num_stop_sequences = 1;
  const ptgc_request* pointer = &request;
  Heard heard;
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, &Hear, &heard, &result),
            PTGC_OK);
  EXPECT_EQ(heard.texts[0], text);
  EXPECT_EQ(TakeTokens(result), text);
}

TEST(CApi, EndTokensAreTheRequestsOrNone) {
  const CApiFixture fixture(1);
  const Tokens prompt = MakePrompt(6, 3);
  const Tokens text = Continuation(prompt, 30);
  ptgc_request request = Ask(prompt, 30);
  request.eos_token_ids = &text[10];
  request.num_eos_token_ids = 1;
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, nullptr, nullptr, &result),
            PTGC_OK);
  EXPECT_EQ(ReasonOf(result), PTGC_FINISH_EOS);
  EXPECT_EQ(TakeTokens(result).back(), text[10]);
  request.ignore_eos = 1;
  ASSERT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, nullptr, nullptr, &result),
            PTGC_OK);
  EXPECT_EQ(TakeTokens(result), text);
}

TEST(CApi, WithoutALengthTheTextFillsTheBuild) {
  const CApiFixture fixture(1);
  const Tokens prompt = MakePrompt(100, 1);
  const ptgc_request request = Ask(prompt, 0);
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, nullptr, nullptr, &result),
            PTGC_OK);
  EXPECT_EQ(TakeTokens(result), Continuation(prompt, 28));
}

TEST(CApi, DeadlineEndsTheText) {
  const CApiFixture fixture(1);
  const Tokens prompt = MakePrompt(6, 1);
  ptgc_request request = Ask(prompt, 60);
  request.deadline_seconds = 1e-9;
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, nullptr, nullptr, &result),
            PTGC_OK);
  EXPECT_EQ(ReasonOf(result), PTGC_FINISH_DEADLINE);
  EXPECT_TRUE(TakeTokens(result).empty());
}

// Draws 30 tokens; gives the seed that the result tells.
std::uint64_t Draw(ptgc_generator* generator, const ptgc_sampling& sampling, Tokens& text) {
  const Tokens prompt = MakePrompt(6, 1);
  ptgc_request request = Ask(prompt, 30);
  request.sampling = &sampling;
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  EXPECT_EQ(ptgc_generator_generate(generator, &pointer, 1, nullptr, nullptr, &result), PTGC_OK)
      << ptgc_last_error_message();
  std::uint64_t seed = 0;
  EXPECT_EQ(ptgc_result_get_seed(result, &seed), PTGC_OK);
  text = TakeTokens(result);
  return seed;
}

TEST(CApi, SeedThatTheResultTellsDrawsTheTextAgain) {
  const CApiFixture fixture(1);
  ptgc_sampling sampling = PTGC_SAMPLING_INIT;
  sampling.temperature = 1;
  Tokens first;
  sampling.seed = Draw(fixture.generator, sampling, first);
  sampling.has_seed = 1;
  Tokens again;
  EXPECT_EQ(Draw(fixture.generator, sampling, again), sampling.seed);
  EXPECT_EQ(again, first);
  sampling.has_seed = 0;
  Tokens other;
  EXPECT_NE(Draw(fixture.generator, sampling, other), sampling.seed);
  EXPECT_NE(other, first);
}

TEST(CApi, LogitBiasForbidsTokens) {
  const CApiFixture fixture(1);
  const Tokens text = Continuation(MakePrompt(6, 1), 1);
  const ptgc_logit_bias bias = {text[0], -std::numeric_limits<double>::infinity()};
  ptgc_sampling sampling = PTGC_SAMPLING_INIT;
  sampling.logit_bias = &bias;
  sampling.num_logit_bias = 1;
  Tokens written;
  EXPECT_EQ(Draw(fixture.generator, sampling, written), 0U);
  EXPECT_EQ(written.size(), 30U);
  EXPECT_EQ(std::count(written.begin(), written.end(), text[0]), 0);
}

Tokens Written(const CApiFixture& fixture, const ptgc_request& request) {
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  EXPECT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, nullptr, nullptr, &result),
            PTGC_OK)
      << ptgc_last_error_message();
  return TakeTokens(result);
}

TEST(CApi, RequestsThatDoNotSayTakeTheBundlesDefaults) {
  const Tokens prompt = {1, 2, 3};
  const ptgc_request plain = Ask(prompt, 24);
  const CApiFixture without(1);
  const Tokens text = Written(without, plain);
  GenerationDefaults defaults;
  defaults.repetition_penalty = 1.5;
  defaults.suppressed_token_ids = {text[0]};
  const CApiFixture with(1, defaults);

  ptgc_logit_bias bias = {text[0], -std::numeric_limits<double>::infinity()};
  ptgc_sampling sampling = PTGC_SAMPLING_INIT;
  sampling.repetition_penalty = 1.5;
  sampling.logit_bias = &bias;
  sampling.num_logit_bias = 1;
  ptgc_request said = plain;
  said.sampling = &sampling;
  const Tokens expected = Written(without, said);
  EXPECT_NE(expected, text);
  EXPECT_EQ(Written(with, plain), expected);
  ptgc_sampling initial = PTGC_SAMPLING_INIT;
  ptgc_request unset = plain;
  unset.sampling = &initial;
  EXPECT_EQ(Written(with, unset), expected);

  sampling.repetition_penalty = 1;  // What a request says is the bundle's no more.
  bias.bias = 0;
  EXPECT_EQ(Written(with, said), text);
  unset.ignore_defaults = 1;
  EXPECT_EQ(Written(with, unset), text);
}

TEST(CApi, SessionKeepsRewindsForksAndForgetsItsText) {
  const CApiFixture fixture(2);
  ptgc_session* session = fixture.OpenSession();
  const Tokens prompt = MakePrompt(20, 1);
  const Tokens text = Continuation(prompt, 40);
  ASSERT_EQ(ptgc_session_append(session, prompt.data(), prompt.size()), PTGC_OK);
  const ptgc_request request = Ask({}, 20);
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_session_generate(session, &request, nullptr, nullptr, &result), PTGC_OK);
  EXPECT_EQ(TakeTokens(result), Tokens(text.begin(), text.begin() + 20));
  ptgc_session* copy = nullptr;
  ASSERT_EQ(ptgc_session_fork(session, &copy), PTGC_OK);
  for (ptgc_session* one : {copy, session}) {
    ASSERT_EQ(ptgc_session_generate(one, &request, nullptr, nullptr, &result), PTGC_OK);
    EXPECT_EQ(TakeTokens(result), Tokens(text.begin() + 20, text.end()));
  }
  ASSERT_EQ(ptgc_session_rewind(session, 30), PTGC_OK);
  Tokens held(100);
  size_t length = 0;
  ASSERT_EQ(ptgc_session_get_token_ids(session, held.data(), 25, &length), PTGC_OK);
  EXPECT_EQ(length, 30U);
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), held.begin()));
  EXPECT_EQ(held[24], text[4]);
  EXPECT_EQ(held[25], 0);
  ASSERT_EQ(ptgc_session_reset(session), PTGC_OK);
  ASSERT_EQ(ptgc_session_get_length(session, &length), PTGC_OK);
  EXPECT_EQ(length, 0U);
  EXPECT_EQ(ptgc_session_close(copy), PTGC_OK);
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
  EXPECT_EQ(fixture.seen.broken_texts, 0);
}

TEST(CApi, SessionTakesARowUntilItIsClosed) {
  const CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  ptgc_session* second = nullptr;
  ExpectRefusal(ptgc_session_open(fixture.generator, &second), PTGC_ERROR_BUSY, "rows");
  EXPECT_EQ(second, nullptr);
  ExpectRefusal(ptgc_session_fork(session, &second), PTGC_ERROR_BUSY, "rows");
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
  EXPECT_EQ(ptgc_session_close(fixture.OpenSession()), PTGC_OK);
}

}  // namespace
}  // namespace ptgc::capi
