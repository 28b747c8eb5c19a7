// What happens within a callback.
#include <gtest/gtest.h>

#include <stdexcept>

#include "c_api_fixture.h"

namespace ptgc::capi {
namespace {

// Calls everything that is refused within a callback.
struct Meddler {
  ptgc_generator* generator;
  ptgc_session* session;
  bool ran = false;
  static int32_t Run(void* user_data, const ptgc_chunk* chunk) {
    auto& self = *static_cast<Meddler*>(user_data);
    self.ran = true;
    ptgc_request request = PTGC_REQUEST_INIT;
    const ptgc_request* pointer = &request;
    ptgc_session* session = nullptr;
    ptgc_result* result = nullptr;
    size_t length = 0;
    for (ptgc_status status : {
             ptgc_generator_generate(self.generator, &pointer, 1, nullptr, nullptr, &result),
             ptgc_generator_close(self.generator),
             ptgc_session_open(self.generator, &session),
             ptgc_session_append(self.session, chunk->token_ids, 1),
             ptgc_session_generate(self.session, &request, nullptr, nullptr, &result),
             ptgc_session_rewind(self.session, 0),
             ptgc_session_reset(self.session),
             ptgc_session_fork(self.session, &session),
             ptgc_session_get_length(self.session, &length),
             ptgc_session_close(self.session),
         }) {
      ExpectRefusal(status, PTGC_ERROR_USAGE, "within its own callback");
    }
    ptgc_generator_info info = PTGC_GENERATOR_INFO_INIT;
    EXPECT_EQ(ptgc_generator_get_info(self.generator, &info), PTGC_OK);
    EXPECT_EQ(ptgc_session_cancel(self.session), PTGC_OK);
    return PTGC_CONTINUE;
  }
};

TEST(CApiCallbacks, CallsFromWithinACallbackAreRefused) {
  const CApiFixture fixture(2);
  ptgc_session* session = fixture.OpenSession();
  Meddler meddler{fixture.generator, session};
  const Tokens prompt = MakePrompt(5, 1);
  const ptgc_request request = Ask(prompt, 20);
  ptgc_result* result = nullptr;
  ASSERT_EQ(ptgc_session_generate(session, &request, &Meddler::Run, &meddler, &result), PTGC_OK);
  EXPECT_TRUE(meddler.ran);
  EXPECT_EQ(ReasonOf(result), PTGC_FINISH_CANCELLED);
  EXPECT_EQ(ptgc_result_free(result), PTGC_OK);
  EXPECT_EQ(ptgc_session_close(session), PTGC_OK);
}

TEST(CApiCallbacks, AnotherGeneratorMayBeUsedWithinACallback) {
  const CApiFixture fixture(1);
  CApiFixture other(1);
  const Tokens prompt = {1, 2};
  const ptgc_request request = Ask(prompt, 3);
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  const ptgc_on_chunk nested = [](void* user_data, const ptgc_chunk*) -> int32_t {
    const Tokens inner = {3, 4};
    EXPECT_EQ(Generate(static_cast<CApiFixture*>(user_data)->generator, Ask(inner, 2)), PTGC_OK);
    return PTGC_CONTINUE;
  };
  ASSERT_EQ(ptgc_generator_generate(fixture.generator, &pointer, 1, nested, &other, &result),
            PTGC_OK);
  EXPECT_EQ(TakeTokens(result), Continuation(prompt, 3));
}

TEST(CApiCallbacks, ExceptionOfACallbackStaysInside) {
  const CApiFixture fixture(1);
  const Tokens prompt = {1, 2};
  const ptgc_request request = Ask(prompt, 3);
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  const ptgc_on_chunk number = [](void*, const ptgc_chunk*) -> int32_t { throw 3; };
  ExpectRefusal(ptgc_generator_generate(fixture.generator, &pointer, 1, number, nullptr, &result),
                PTGC_ERROR_USAGE, "callback has thrown");
  const ptgc_on_chunk exception = [](void*, const ptgc_chunk*) -> int32_t {
    throw std::runtime_error("unlikely");
  };
  ExpectRefusal(
      ptgc_generator_generate(fixture.generator, &pointer, 1, exception, nullptr, &result),
      PTGC_ERROR_USAGE, "callback has thrown");
  EXPECT_EQ(Generate(fixture.generator, request), PTGC_OK);
}

}  // namespace
}  // namespace ptgc::capi
