// Continues a prompt of token ids and prints each chunk as it comes:
//
//   generate BUNDLE NUM_NEW_TOKENS TOKEN_ID...
//
// ONNX Runtime's library is searched, or given by $PTGC_ONNXRUNTIME.
#include <ptgc.h>
#include <stdio.h>
#include <stdlib.h>

static int32_t print_chunk(void* user_data, const ptgc_chunk* chunk) {
  (void)user_data;
  for (size_t i = 0; i < chunk->num_tokens; ++i) printf("%lld ", (long long)chunk->token_ids[i]);
  fflush(stdout);
  return PTGC_CONTINUE;
}

static int print_end(const ptgc_result* result) {
  ptgc_finish_reason reason = PTGC_FINISH_LENGTH;
  ptgc_statistics statistics = PTGC_STATISTICS_INIT;
  if (ptgc_result_get_finish_reason(result, &reason) != PTGC_OK) return 1;
  if (ptgc_result_get_statistics(result, &statistics) != PTGC_OK) return 1;
  printf("\n%s: %lld tokens in %lld rounds\n", ptgc_finish_reason_name(reason),
         (long long)statistics.new_tokens, (long long)statistics.rounds);
  return 0;
}

static int fail(void) {
  fprintf(stderr, "%s\n%s\n", ptgc_last_error_message(), ptgc_last_error_action());
  return 1;
}

// Writes one text in a session, whose cache the next call would continue from.
static int generate(ptgc_generator* generator, const ptgc_request* request) {
  ptgc_session* session = NULL;
  ptgc_result* result = NULL;
  int failed = 1;
  if (ptgc_session_open(generator, &session) == PTGC_OK &&
      ptgc_session_generate(session, request, print_chunk, NULL, &result) == PTGC_OK) {
    failed = print_end(result);
  }
  if (failed) fail();
  ptgc_result_free(result);
  ptgc_session_close(session);
  return failed;
}

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: generate BUNDLE NUM_NEW_TOKENS TOKEN_ID...\n");
    return 2;
  }
  size_t count = (size_t)argc - 3;
  ptgc_token_id* prompt = malloc(count * sizeof(ptgc_token_id));
  if (prompt == NULL) return 1;
  for (size_t i = 0; i < count; ++i) prompt[i] = strtoll(argv[3 + i], NULL, 10);

  ptgc_load_options options = PTGC_LOAD_OPTIONS_INIT;
  options.num_threads = 2;
  ptgc_request request = PTGC_REQUEST_INIT;
  request.prompt_ids = prompt;
  request.num_prompt_ids = count;
  request.max_new_tokens = strtoll(argv[2], NULL, 10);

  ptgc_generator* generator = NULL;
  int failed = ptgc_generator_open(argv[1], &options, &generator) != PTGC_OK;
  if (failed) {
    fail();
  } else {
    failed = generate(generator, &request);
  }
  ptgc_generator_close(generator);
  free(prompt);
  return failed;
}
