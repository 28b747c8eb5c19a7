#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "c_api_fixture.h"
#include "drafters/datastore_writer.h"
#include "temporary_folder.h"

namespace ptgc::capi {
namespace {

constexpr int kCount = 60;

// Three texts of the made-up language, cut where their prompts end, and a datastore of them.
struct Texts {
  Texts() {
    DatastoreWriter writer(kVocabSize, std::string(64, 'a'));
    for (const Tokens& prompt : prompts) {
      Tokens text = prompt;
      const Tokens more = Continuation(prompt, kCount);
      text.insert(text.end(), more.begin(), more.end());
      writer.Append(text);
      writer.EndDocument();
    }
    options.load.datastore = folder.path() / "store";
    writer.Write(options.load.datastore);
  }

  std::vector<Tokens> prompts = {MakePrompt(20, 1), MakePrompt(33, 2), MakePrompt(7, 3)};
  TemporaryFolder folder;
  GeneratorOptions options;  // With this datastore.
};

ptgc_statistics StatisticsOf(const ptgc_result* result) {
  ptgc_statistics statistics = PTGC_STATISTICS_INIT;
  EXPECT_EQ(ptgc_result_get_statistics(result, &statistics), PTGC_OK);
  return statistics;
}

ptgc_result* Write(const CApiFixture& fixture, const Tokens& prompt) {
  const ptgc_request request = Ask(prompt, kCount);
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  EXPECT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, nullptr, nullptr, &result),
            PTGC_OK)
      << ptgc_last_error_message();
  return result;
}

TEST(CApiDatastore, TextsOfADatastoreDraftTheirContinuation) {
  const Texts texts;
  const CApiFixture fixture(2, {}, DatastorePlan(), texts.options);
  for (const Tokens& prompt : texts.prompts) {
    ptgc_result* result = Write(fixture, prompt);
    const ptgc_statistics statistics = StatisticsOf(result);
    EXPECT_EQ(statistics.fallback_reason, nullptr);
    EXPECT_GT(statistics.accepted_tokens, kCount / 2);
    EXPECT_LT(statistics.rounds, kCount / 3);
    EXPECT_EQ(TakeTokens(result), Continuation(prompt, kCount));
  }
}

TEST(CApiDatastore, WithoutOneRoundsArePlainAndSayWhy) {
  const CApiFixture fixture(1, {}, DatastorePlan());
  const Tokens prompt = MakePrompt(20, 1);
  ptgc_result* result = Write(fixture, prompt);
  const ptgc_statistics statistics = StatisticsOf(result);
  EXPECT_EQ(statistics.drafted_tokens, 0);
  EXPECT_EQ(statistics.plain_rounds, statistics.rounds);
  ASSERT_NE(statistics.fallback_reason, nullptr);
  EXPECT_EQ(std::string_view(statistics.fallback_reason), "no datastore was given");
  EXPECT_EQ(TakeTokens(result), Continuation(prompt, kCount));
}

TEST(CApiDatastore, SessionsDraftFromItToo) {
  const Texts texts;
  const CApiFixture fixture(1, {}, DatastorePlan(), texts.options);
  ptgc_session* session = fixture.OpenSession();
  const Tokens& prompt = texts.prompts[1];
  ASSERT_EQ(ptgc_session_append(session, prompt.data(), prompt.size()), PTGC_OK);
  ptgc_request request = PTGC_REQUEST_INIT;
  request.max_new_tokens = kCount;
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_session_generate(session, &request, nullptr, nullptr, &result), PTGC_OK)
      << ptgc_last_error_message();
  EXPECT_GT(StatisticsOf(result).accepted_tokens, kCount / 2);
  EXPECT_EQ(TakeTokens(result), Continuation(prompt, kCount));
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

}  // namespace
}  // namespace ptgc::capi
