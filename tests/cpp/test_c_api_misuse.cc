// What a C caller can get wrong is an error that says so, and nothing else happens.
#include <gtest/gtest.h>

#include <limits>
#include <thread>

#include "c_api_fixture.h"

namespace ptgc::capi {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

ptgc_status Open(const char* path, const ptgc_load_options* options) {
  ptgc_generator* generator = nullptr;
  const ptgc_status status = ptgc_generator_open(path, options, &generator);
  EXPECT_EQ(generator, nullptr);
  return status;
}

TEST(CApiMisuse, NullHandlesAreNamed) {
  size_t size = 0;
  const ptgc_token_id* ids = nullptr;
  const ptgc_draft_count* counts = nullptr;
  ptgc_session* session = nullptr;
  ptgc_result* result = nullptr;
  ptgc_finish_reason reason = 0;
  std::uint64_t seed = 0;
  ptgc_generator_info info = PTGC_GENERATOR_INFO_INIT;
  ptgc_statistics statistics = PTGC_STATISTICS_INIT;
  const ptgc_request request = PTGC_REQUEST_INIT;
  const ptgc_request* pointer = &request;
  for (ptgc_status status : {
           ptgc_generator_get_info(nullptr, &info),
           ptgc_generator_generate(nullptr, &pointer, 1, nullptr, nullptr, &result),
           ptgc_session_open(nullptr, &session),
           ptgc_session_append(nullptr, nullptr, 0),
           ptgc_session_generate(nullptr, &request, nullptr, nullptr, &result),
           ptgc_session_rewind(nullptr, 0),
           ptgc_session_reset(nullptr),
           ptgc_session_fork(nullptr, &session),
           ptgc_session_get_length(nullptr, &size),
           ptgc_session_get_token_ids(nullptr, nullptr, 0, &size),
           ptgc_session_cancel(nullptr),
           ptgc_result_get_token_ids(nullptr, &ids, &size),
           ptgc_result_get_finish_reason(nullptr, &reason),
           ptgc_result_get_statistics(nullptr, &statistics),
           ptgc_result_get_draft_counts(nullptr, &counts, &size),
           ptgc_result_get_seed(nullptr, &seed),
       }) {
    ExpectRefusal(status, PTGC_ERROR_USAGE, "is NULL");
  }
}

TEST(CApiMisuse, ClosingNothingDoesNothing) {
  EXPECT_EQ(ptgc_generator_close(nullptr), PTGC_OK);
  EXPECT_EQ(ptgc_session_close(nullptr), PTGC_OK);
  EXPECT_EQ(ptgc_result_free(nullptr), PTGC_OK);
}

TEST(CApiMisuse, NullOutputsAndInputsAreNamed) {
  const CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  const ptgc_request request = PTGC_REQUEST_INIT;
  const ptgc_request* pointer = &request;
  const ptgc_request* missing = nullptr;
  ptgc_result* result = nullptr;
  size_t size = 0;
  for (ptgc_status status : {
           ptgc_generator_open("x", nullptr, nullptr),
           Open(nullptr, nullptr),
           ptgc_generator_get_info(fixture.generator, nullptr),
           ptgc_generator_generate(fixture.generator, nullptr, 1, nullptr, nullptr, &result),
           ptgc_generator_generate(fixture.generator, &missing, 1, nullptr, nullptr, &result),
           ptgc_generator_generate(fixture.generator, &pointer, 1, nullptr, nullptr, nullptr),
           ptgc_session_open(fixture.generator, nullptr),
           ptgc_session_append(session, nullptr, 3),
           ptgc_session_generate(session, nullptr, nullptr, nullptr, &result),
           ptgc_session_generate(session, &request, nullptr, nullptr, nullptr),
           ptgc_session_fork(session, nullptr),
           ptgc_session_get_length(session, nullptr),
           ptgc_session_get_token_ids(session, nullptr, 3, &size),
           ptgc_session_get_token_ids(session, nullptr, 0, nullptr),
       }) {
    ExpectRefusal(status, PTGC_ERROR_USAGE, "NULL");
  }
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

TEST(CApiMisuse, ClosedHandlesAreRefusedForGood) {
  CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  const Tokens prompt = {1, 2};
  const ptgc_request request = Ask(prompt, 2);
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_session_generate(session, &request, nullptr, nullptr, &result), PTGC_OK);
  EXPECT_EQ(ptgc_result_free(result), PTGC_OK);
  std::uint64_t seed = 0;
  ExpectRefusal(ptgc_result_get_seed(result, &seed), PTGC_ERROR_USAGE, "result is closed");
  ExpectRefusal(ptgc_result_free(result), PTGC_ERROR_USAGE, "result is closed");
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
  ptgc_session* other = fixture.OpenSession();  // Takes the memory of the first.
  EXPECT_NE(other, session);
  ExpectRefusal(ptgc_session_reset(session), PTGC_ERROR_USAGE, "session is closed");
  ExpectRefusal(ptgc_session_cancel(session), PTGC_ERROR_USAGE, "session is closed");
  ExpectRefusal(ptgc_session_close(session), PTGC_ERROR_USAGE, "session is closed");
  EXPECT_EQ(ptgc_session_close(other), PTGC_OK);
  EXPECT_EQ(ptgc_generator_close(fixture.generator), PTGC_OK);
  ExpectRefusal(ptgc_session_open(fixture.generator, &session), PTGC_ERROR_USAGE,
                "generator is closed");
  ExpectRefusal(ptgc_generator_close(fixture.generator), PTGC_ERROR_USAGE, "generator is closed");
}

TEST(CApiMisuse, HandlesOfAnotherKindAndPlainAddressesAreRefused) {
  const CApiFixture fixture(1);
  int number = 0;
  auto* as_session = reinterpret_cast<ptgc_session*>(fixture.generator);
  ExpectRefusal(ptgc_session_reset(as_session), PTGC_ERROR_USAGE, "no session at all");
  ExpectRefusal(ptgc_session_reset(reinterpret_cast<ptgc_session*>(&number)), PTGC_ERROR_USAGE,
                "no session at all");
}

TEST(CApiMisuse, SessionsOutliveTheirGeneratorAsHandlesOnly) {
  const CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  const Tokens prompt = {1, 2};
  EXPECT_EQ(ptgc_generator_close(fixture.generator), PTGC_OK);
  ExpectRefusal(ptgc_session_append(session, prompt.data(), 2), PTGC_ERROR_USAGE, "closed");
  const ptgc_request request = Ask(prompt, 2);
  ptgc_result* result = nullptr;
  ExpectRefusal(ptgc_session_generate(session, &request, nullptr, nullptr, &result),
                PTGC_ERROR_USAGE, "closed");
  EXPECT_EQ(ptgc_session_cancel(session), PTGC_OK);
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

TEST(CApiMisuse, SizesThatAreNoneAreRefused) {
  const CApiFixture fixture(1);
  const Tokens prompt = {1, 2};
  for (std::size_t size : {std::size_t{0}, std::size_t{8}, sizeof(ptgc_request) - 1,
                           std::size_t{4097}, std::numeric_limits<std::size_t>::max()}) {
    ptgc_request request = Ask(prompt, 2);
    request.struct_size = size;
    ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE,
                  "ptgc_request.struct_size is " + std::to_string(size));
    ptgc_sampling sampling = PTGC_SAMPLING_INIT;
    sampling.struct_size = std::min(size, sizeof(sampling) - 1);
    request = Ask(prompt, 2);
    request.sampling = &sampling;
    ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "ptgc_sampling.struct_");
    ptgc_load_options options = PTGC_LOAD_OPTIONS_INIT;
    options.struct_size = std::min(size, offsetof(ptgc_load_options, drafter) - 1);
    ExpectRefusal(Open("x", &options), PTGC_ERROR_USAGE, "ptgc_load_options.struct_size");
    ptgc_generator_info info = PTGC_GENERATOR_INFO_INIT;
    info.struct_size = std::min(size, sizeof(info) - 1);
    ExpectRefusal(ptgc_generator_get_info(fixture.generator, &info), PTGC_ERROR_USAGE,
                  "ptgc_generator_info.struct_size");
  }
}

// A struct as a later version of the header would have it.
template <typename Struct>
struct Later {
  Struct known;                 // What there is today.
  std::uint64_t added[2] = {};  // What comes later.
};

TEST(CApiMisuse, LargerStructsAreReadIfWhatIsUnknownIsUnset) {
  const CApiFixture fixture(1);
  const Tokens prompt = {1, 2};
  Later<ptgc_request> request{Ask(prompt, 2)};
  request.known.struct_size = sizeof(request);
  EXPECT_EQ(Generate(fixture.generator, request.known), PTGC_OK);
  request.added[1] = 1;
  ExpectRefusal(Generate(fixture.generator, request.known), PTGC_ERROR_USAGE,
                "ptgc_request sets fields that ptgc " PTGC_VERSION " does not have");
  Later<ptgc_generator_info> info{PTGC_GENERATOR_INFO_INIT, {7, 7}};
  info.known.struct_size = sizeof(info);
  EXPECT_EQ(ptgc_generator_get_info(fixture.generator, &info.known), PTGC_OK);
  EXPECT_EQ(info.known.struct_size, sizeof(info));
  EXPECT_EQ(info.added[0], 0U);
  EXPECT_EQ(info.added[1], 0U);
}

TEST(CApiMisuse, RequestsOutOfRangeAreRefusedWithEveryProblem) {
  const CApiFixture fixture(1);
  const Tokens prompt = {1, 2};
  ptgc_request request = Ask(prompt, -3);
  request.deadline_seconds = kNan;
  request.plain = 7;
  const ptgc_status status = Generate(fixture.generator, request);
  for (const char* part : {"max_new_tokens is -3", "deadline_seconds is nan", "plain is 7"}) {
    ExpectRefusal(status, PTGC_ERROR_USAGE, part);
  }
  request = Ask(prompt, 2);
  request.threshold = 0.5;
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE,
                "num_steps and threshold are for canvases");
  request = Ask(prompt, 2);
  request.num_steps = 3;
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "are for canvases");
  request = Ask(prompt, 2);
  request.deadline_seconds = -1;
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "deadline_seconds");
  request = Ask(prompt, 2);
  request.max_new_tokens = std::numeric_limits<std::int64_t>::max();
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "max_new_tokens");
}

TEST(CApiMisuse, PromptsThatDoNotFitAreRefusedUnread) {
  const CApiFixture fixture(1);
  ptgc_session* session = nullptr;
  const ptgc_token_id one = 1;
  ptgc_request request = PTGC_REQUEST_INIT;
  request.prompt_ids = &one;
  request.num_prompt_ids = std::numeric_limits<std::size_t>::max();
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_CAPACITY, "at most 128");
  session = fixture.OpenSession();
  ExpectRefusal(ptgc_session_append(session, &one, std::size_t{1} << 60U), PTGC_ERROR_CAPACITY,
                "at most 128");
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
  request = PTGC_REQUEST_INIT;
  request.num_prompt_ids = 2;
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "NULL, but 2");
  ExpectRefusal(Generate(fixture.generator, PTGC_REQUEST_INIT), PTGC_ERROR_USAGE, "empty");
  const Tokens outside = {1, kVocabSize};
  ExpectRefusal(Generate(fixture.generator, Ask(outside, 2)), PTGC_ERROR_USAGE, "vocabulary");
  EXPECT_EQ(fixture.seen.runs, 0);
}

TEST(CApiMisuse, ArraysThatAreNoneAreRefusedUnread) {
  const CApiFixture fixture(1);
  const Tokens prompt = {1, 2};
  ptgc_request request = Ask(prompt, 2);
  request.num_stop_sequences = 1;
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "stop_sequences is NULL");
  const ptgc_token_sequence empty = {prompt.data(), 0};
  request.stop_sequences = &empty;
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "sequence 0 is empty");
  request.num_stop_sequences = std::numeric_limits<std::size_t>::max();
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "stop sequences");
  request = Ask(prompt, 2);
  request.num_eos_token_ids = 1;
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "eos_token_ids is NULL");
  ptgc_sampling sampling = PTGC_SAMPLING_INIT;
  sampling.num_logit_bias = 1;
  request = Ask(prompt, 2);
  request.sampling = &sampling;
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "logit_bias is NULL");
}

TEST(CApiMisuse, CountsThatWereNeverSetTouchNothing) {
  const CApiFixture fixture(1);
  const Tokens prompt = {1, 2};
  const ptgc_request request = Ask(prompt, 2);
  const ptgc_request* pointer = &request;
  int number = 0;
  ptgc_result* result = reinterpret_cast<ptgc_result*>(&number);
  ptgc_result* const untouched = result;
  for (std::size_t count : {std::numeric_limits<std::size_t>::max(), std::size_t{1} << 62U,
                            std::size_t{1} << 40U, (std::size_t{1} << 20U) + 1}) {
    ExpectRefusal(
        ptgc_generator_generate(fixture.generator, &pointer, count, nullptr, nullptr, &result),
        PTGC_ERROR_USAGE, "There are " + std::to_string(count) + " requests");
    EXPECT_EQ(result, untouched);
  }
}

TEST(CApiMisuse, SamplingOutOfRangeIsRefusedWithEveryProblem) {
  const CApiFixture fixture(1);
  const Tokens prompt = {1, 2};
  const ptgc_logit_bias bias = {kVocabSize, 1.0};
  ptgc_sampling sampling = PTGC_SAMPLING_INIT;
  sampling.temperature = -1;
  sampling.top_p = kNan;
  sampling.top_k = -1;
  sampling.logit_bias = &bias;
  sampling.num_logit_bias = 1;
  ptgc_request request = Ask(prompt, 2);
  request.sampling = &sampling;
  const ptgc_status status = Generate(fixture.generator, request);
  for (const char* part : {"temperature", "top_p", "top_k", "logit_bias"}) {
    ExpectRefusal(status, PTGC_ERROR_USAGE, part);
  }
  sampling = PTGC_SAMPLING_INIT;
  sampling.has_seed = 2;
  ExpectRefusal(Generate(fixture.generator, request), PTGC_ERROR_USAGE, "has_seed is 2");
}

TEST(CApiMisuse, RefusalOfABatchNamesTheRequest) {
  const CApiFixture fixture(1);
  const Tokens prompt = {1, 2};
  const ptgc_request good = Ask(prompt, 2);
  const ptgc_request bad = Ask(prompt, -1);
  const ptgc_request* pointers[] = {&good, &bad};
  ptgc_result* results[2] = {};
  ExpectRefusal(ptgc_generator_generate(fixture.generator, pointers, 2, nullptr, nullptr, results),
                PTGC_ERROR_USAGE, "Request 1: max_new_tokens");
  EXPECT_EQ(results[0], nullptr);
  EXPECT_EQ(fixture.seen.runs, 0);
}

TEST(CApiMisuse, RewindingTooFarIsRefused) {
  const CApiFixture fixture(1);
  ptgc_session* session = fixture.OpenSession();
  const Tokens prompt = {1, 2};
  ASSERT_EQ(ptgc_session_append(session, prompt.data(), 2), PTGC_OK);
  ExpectRefusal(ptgc_session_rewind(session, 3), PTGC_ERROR_USAGE, "rewind");
  ExpectRefusal(ptgc_session_rewind(session, std::numeric_limits<std::size_t>::max()),
                PTGC_ERROR_USAGE, "rewind");
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

TEST(CApiMisuse, LoadOptionsOutOfRangeAreRefusedWithEveryProblem) {
  ptgc_load_options options = PTGC_LOAD_OPTIONS_INIT;
  int stream = 0;
  options.num_threads = -1;
  options.acceptance = 5;
  options.ngram_match = -2;
  options.max_waiting_texts = -7;
  options.overlap = 3;
  options.num_draft_tokens = -2;
  options.draft_length = 9;
  options.skip_verification = 2;
  options.wait_seconds = kNan;
  options.library = "x";
  options.ort_api_base = &stream;
  options.cuda_stream = &stream;
  const ptgc_status status = Open("x", &options);
  for (const char* part :
       {"num_threads is -1", "num_draft_tokens is -2", "draft_length is 9",
        "skip_verification is 2", "wait_seconds is nan", "both set", "cuda_stream is reserved",
        "acceptance is 5", "ngram_match is -2", "max_waiting_texts is -7", "overlap is 3"}) {
    ExpectRefusal(status, PTGC_ERROR_USAGE, part);
  }
  EXPECT_STRNE(ptgc_last_error_action(), "");
  options = PTGC_LOAD_OPTIONS_INIT;
  for (std::int32_t many : {4096, 4097, std::numeric_limits<std::int32_t>::max()}) {
    options.num_threads = many;
    ExpectRefusal(Open("x", &options), PTGC_ERROR_USAGE,
                  "num_threads is " + std::to_string(many) + "; it must be from 1 to ");
  }
  ExpectRefusal(Open("/nowhere", nullptr), PTGC_ERROR_BUNDLE, "no bundle at '/nowhere'");
}

TEST(CApiMisuse, LastErrorIsTheThreadsOwn) {
  EXPECT_EQ(ptgc_session_reset(nullptr), PTGC_ERROR_USAGE);
  const std::string mine = ptgc_last_error_message();
  std::thread([] {
    EXPECT_STREQ(ptgc_last_error_message(), "");
    EXPECT_EQ(ptgc_generator_get_info(nullptr, nullptr), PTGC_ERROR_USAGE);
  }).join();
  EXPECT_EQ(ptgc_session_close(nullptr), PTGC_OK);
  EXPECT_EQ(mine, ptgc_last_error_message());
}

}  // namespace
}  // namespace ptgc::capi
