// Handles of the C API over the made-up language.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "handles.h"
#include "ptgc.h"
#include "substitute_engine.h"

namespace ptgc::capi {

using Tokens = std::vector<TokenId>;

// A generator of `batch` rows as a C caller holds it.
class CApiFixture {
 public:
  explicit CApiFixture(int batch, const GenerationDefaults& defaults = {},
                       const DrafterPlan& drafter = NgramPlan(),
                       const GeneratorOptions& options = {})
      : generator(Generators().Add(std::make_shared<GeneratorState>(std::make_unique<Generator>(
            BundleWith(batch, defaults, drafter), SubstituteEngines(seen), options)))) {}
  ~CApiFixture() { ptgc_generator_close(generator); }
  CApiFixture(const CApiFixture&) = delete;
  CApiFixture& operator=(const CApiFixture&) = delete;

  ptgc_session* OpenSession() const {
    ptgc_session* session = nullptr;
    EXPECT_EQ(ptgc_session_open(generator, &session), PTGC_OK) << ptgc_last_error_message();
    return session;
  }

  Observations seen;          // What its engine saw.
  ptgc_generator* generator;  // Closed with this.

 private:
  static Bundle BundleWith(int batch, const GenerationDefaults& defaults,
                           const DrafterPlan& drafter) {
    Bundle bundle = SubstituteBundle(batch, drafter);
    bundle.generation = defaults;
    return bundle;
  }
};

// A request for `count` tokens; `prompt` must outlive it.
inline ptgc_request Ask(const Tokens& prompt, int count) {
  ptgc_request request = PTGC_REQUEST_INIT;
  request.prompt_ids = prompt.data();
  request.num_prompt_ids = prompt.size();
  request.max_new_tokens = count;
  return request;
}

// What writing one text says; the text is not looked at.
inline ptgc_status Generate(ptgc_generator* generator, const ptgc_request& request) {
  const ptgc_request* pointer = &request;
  ptgc_result* result = nullptr;
  const ptgc_status status =
      ptgc_generator_generate(generator, &pointer, 1, nullptr, nullptr, &result);
  EXPECT_EQ(result == nullptr, status != PTGC_OK);
  EXPECT_EQ(ptgc_result_free(result), PTGC_OK);
  return status;
}

// The tokens of a result, which is freed.
inline Tokens TakeTokens(ptgc_result* result) {
  const ptgc_token_id* ids = nullptr;
  size_t count = 0;
  EXPECT_EQ(ptgc_result_get_token_ids(result, &ids, &count), PTGC_OK);
  Tokens tokens(ids, ids + count);
  EXPECT_EQ(ptgc_result_free(result), PTGC_OK);
  return tokens;
}

inline ptgc_finish_reason ReasonOf(const ptgc_result* result) {
  ptgc_finish_reason reason = -1;
  EXPECT_EQ(ptgc_result_get_finish_reason(result, &reason), PTGC_OK);
  return reason;
}

// Expects a call to be refused with this status and a message that contains `part`.
inline void ExpectRefusal(ptgc_status status, ptgc_status expected, const std::string& part) {
  EXPECT_EQ(status, expected);
  const std::string message = ptgc_last_error_message();
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

}  // namespace ptgc::capi
