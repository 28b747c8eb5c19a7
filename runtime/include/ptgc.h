// ptgc.h: the C API of the ptgc runtime, version 1. It loads a build of a bundle and writes text as
// token ids, whichever loop the bundle was exported for.
//
// Errors. A function that can fail returns a status; on failure its outputs are NULL or unchanged,
// and ptgc_last_error_message() and ptgc_last_error_action() say what failed and what to do, for
// the calling thread. No exception leaves a function.
// Handles. Passing a closed or freed handle is a usage error; so is passing a handle of another
// kind. Handles are never reused. Closing or freeing NULL does nothing.
// Structs. Every struct that may grow starts with its size; initialise it with its ..._INIT macro,
// which sets the defaults. What a struct points to must live as long as the call.
// Threads. Every function may be called from any thread. Calls on one session wait for each other,
// except ptgc_session_cancel and ptgc_session_close, which end the running call. Within a callback
// of a generator, the only functions that may be called with it or its sessions are
// ptgc_session_cancel, ptgc_generator_cancel and ptgc_generator_get_info; others are usage errors.
// Strings are UTF-8 and null-terminated.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define PTGC_API
#else
#define PTGC_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// ---- Versions -----------------------------------------------------------------------------------

#define PTGC_VERSION "0.1.0"
#define PTGC_VERSION_MAJOR 0
#define PTGC_VERSION_MINOR 1
#define PTGC_VERSION_PATCH 0
// Grows when functions, fields or values are added; existing ones never change their meaning.
#define PTGC_API_VERSION 1

// The versions of the loaded library; the macros are those of this header.
PTGC_API const char* ptgc_version(void);
PTGC_API int32_t ptgc_api_version(void);

// ---- Statuses -----------------------------------------------------------------------------------

// The errors of ptgc, by the same names as in Python and on the command line. A loaded build raises
// no checkpoint, export or build errors.
typedef int32_t ptgc_status;
enum {
  PTGC_OK = 0,                  // Done.
  PTGC_ERROR_USAGE = 1,         // Options that contradict each other, values or handles misused.
  PTGC_ERROR_CHECKPOINT = 2,    // A checkpoint that is missing, incomplete or unsafe.
  PTGC_ERROR_EXPORT = 3,        // A model that cannot be traced.
  PTGC_ERROR_BUNDLE = 4,        // A bundle that is truncated, edited, newer or unsafe.
  PTGC_ERROR_BUILD = 5,         // A build that cannot be made.
  PTGC_ERROR_BACKEND = 6,       // An engine library that is absent, too old, or refuses the engine.
  PTGC_ERROR_CAPACITY = 7,      // A prompt or a request that does not fit the build.
  PTGC_ERROR_BUSY = 8,          // Every row of a generator is taken.
  PTGC_ERROR_STORAGE = 9,       // A path that cannot be read or written.
  PTGC_ERROR_INTERNAL = 10,     // A bug in ptgc, or memory is exhausted.
  PTGC_ERROR_ENGINE_STALE = 11  // An engine compiled for another library or device.
};

// "ok", "usage", ...; "unknown" for anything that is not a status.
PTGC_API const char* ptgc_status_name(ptgc_status status);
// What failed last in this thread: what was given, what is allowed. Empty before the first failure;
// valid until the next one in this thread. A call that succeeds does not change it.
PTGC_API const char* ptgc_last_error_message(void);
// What to do about it; may be empty.
PTGC_API const char* ptgc_last_error_action(void);

// ---- Generators: loaded builds ------------------------------------------------------------------

typedef int64_t ptgc_token_id;
typedef struct ptgc_generator ptgc_generator;

// How many draft tokens a round verifies.
enum {
  PTGC_DRAFT_LENGTH_FIXED = 0,    // As many as planned.
  PTGC_DRAFT_LENGTH_MEASURED = 1  // As many as pay by the measured costs of rounds.
};
// Which drafts are accepted. The first three rules are lossless and differ when sampling; the
// parameters of the other two are the bundle's.
enum {
  PTGC_ACCEPTANCE_PLANNED = -1,     // As the bundle was exported.
  PTGC_ACCEPTANCE_MATCH = 0,        // Drafts that equal the target's choice.
  PTGC_ACCEPTANCE_SPECULATIVE = 1,  // One by one, as many as keep the target's distribution.
  PTGC_ACCEPTANCE_BLOCK = 2,        // The same for a whole chain at once, which accepts more.
  PTGC_ACCEPTANCE_TYPICAL = 3,      // Lossy: drafts that are likely enough for their entropy.
  PTGC_ACCEPTANCE_RELAXED = 4       // Lossy: drafts that are nearly as likely as the likeliest.
};
// Which of equal matches an n-gram drafter continues.
enum { PTGC_NGRAM_MATCH_PLANNED = -1, PTGC_NGRAM_MATCH_LATEST = 0, PTGC_NGRAM_MATCH_FIRST = 1 };

// Whether the next drafts are made while the target verifies.
enum {
  PTGC_OVERLAP_TUNED = 0,  // Where processors are left: as tuned, or if they are enough for both.
  PTGC_OVERLAP_OFF = 1,    // One after the other.
  PTGC_OVERLAP_ON = 2      // At once; the bundle must have been exported with --overlap.
};

// How a build is loaded.
typedef struct ptgc_load_options {
  size_t struct_size;        // sizeof(ptgc_load_options).
  const char* build_id;      // Name of the build; NULL: the newest for the device.
  const char* device;        // Kind of device; NULL: "cpu".
  const char* library;       // The engine library's file; NULL: $PTGC_ONNXRUNTIME, or found.
  const void* ort_api_base;  // Result of OrtGetApiBase(), to use instead of a file; or NULL.
  void* cuda_stream;         // Reserved; NULL.
  double wait_seconds;       // How long a call waits for a row; 0: not at all. -1: as long as texts
                             // are being written, but not for rows that open sessions keep.
  int32_t max_waiting_texts;  // Most texts of all threads that wait for a row; -1: no limit.
  int32_t num_threads;        // Threads of the engine, at most 256 or the number of processors, if
                              // larger; 0: as tuned, or the available processors.
  int32_t num_draft_tokens;   // Most drafts per round; -1: as tuned, in the tuned tree, or the
                              // plan's.
  int32_t draft_length;       // PTGC_DRAFT_LENGTH_...
  int32_t acceptance;         // PTGC_ACCEPTANCE_...
  int32_t ngram_match;        // PTGC_NGRAM_MATCH_...
  int32_t skip_verification;  // 1: do not compare the files with their hashes.
  int32_t overlap;            // PTGC_OVERLAP_...
  const char* drafter;        // Role that drafts, if several can; NULL: as tuned, or the first.
  const char* datastore;      // The file of a bundle that drafts from one; NULL: plain rounds.
} ptgc_load_options;
#define PTGC_LOAD_OPTIONS_INIT \
  {sizeof(ptgc_load_options),  \
   NULL,                       \
   NULL,                       \
   NULL,                       \
   NULL,                       \
   NULL,                       \
   -1.0,                       \
   -1,                         \
   0,                          \
   -1,                         \
   PTGC_DRAFT_LENGTH_MEASURED, \
   PTGC_ACCEPTANCE_PLANNED,    \
   PTGC_NGRAM_MATCH_PLANNED,   \
   0,                          \
   PTGC_OVERLAP_TUNED,         \
   NULL,                       \
   NULL}

// What a generator has loaded; its pointers are valid until the generator is closed.
typedef struct ptgc_generator_info {
  size_t struct_size;                  // sizeof(ptgc_generator_info).
  const char* build_id;                // The build.
  const char* strategy;                // The strategy's name in manifest.json ...
  const char* guarantee;               // ... and its guarantee: "lossless", "approximate", "lossy".
  const char* backend;                 // The backend that runs its engines.
  const char* library_version;         // Version of the engine library.
  const ptgc_token_id* eos_token_ids;  // Any of them ends a text.
  size_t num_eos_token_ids;            // How many.
  int64_t vocab_size;                  // Token ids are smaller than this.
  int64_t max_length;                  // Most tokens of a text, including its prompt.
  int64_t
      max_source_length;  // Tokens of a prompt that an encoder reads or that is edited; 0: none.
  int32_t batch_size;     // Rows: texts that are decoded at once.
  int32_t free_rows;      // Rows that are free at the time of the call.
  double load_seconds;    // Time that loading took.
} ptgc_generator_info;
#define PTGC_GENERATOR_INFO_INIT \
  {sizeof(ptgc_generator_info), NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0.0}

// Loads a build. `path` is a bundle, or one build of it (BUNDLE/builds/ID); `options` may be NULL.
// One process runs one ONNX Runtime: the first load decides which.
PTGC_API ptgc_status ptgc_generator_open(const char* path, const ptgc_load_options* options,
                                         ptgc_generator** generator);
PTGC_API ptgc_status ptgc_generator_get_info(const ptgc_generator* generator,
                                             ptgc_generator_info* info);
// Ends running calls, which then fail, and releases the engines' memory. Sessions may be closed
// before or afterwards; everything else with them or the generator is an error afterwards.
PTGC_API ptgc_status ptgc_generator_close(ptgc_generator* generator);

// ---- Requests -----------------------------------------------------------------------------------

// Added to the logit of one token.
typedef struct ptgc_logit_bias {
  ptgc_token_id token_id;  // The token.
  double bias;             // The bias; -INFINITY forbids the token, and 0 allows one that the
                           // bundle suppresses.
} ptgc_logit_bias;

// How tokens are chosen. The defaults choose the most probable one.
typedef struct ptgc_sampling {
  size_t struct_size;                 // sizeof(ptgc_sampling).
  double temperature;                 // Divides the logits; 0 chooses the most probable token.
  double top_p;                       // Keep the likeliest tokens that reach this sum; 1: all.
  double min_p;                       // Keep tokens with this share of the largest; 0: all.
  double repetition_penalty;          // For tokens of prompt and text; 1: none, 0: the bundle's.
  double presence_penalty;            // Subtracted once for tokens that were written; 0: none.
  double frequency_penalty;           // Subtracted each time that they were written; 0: none.
  const ptgc_logit_bias* logit_bias;  // Biases of single tokens.
  size_t num_logit_bias;              // How many.
  uint64_t seed;                      // Equal seeds write equal texts.
  int32_t has_seed;                   // 0: a new seed, which the result gives.
  int32_t top_k;                      // Keep this many likeliest tokens; 0: all.
} ptgc_sampling;
#define PTGC_SAMPLING_INIT {sizeof(ptgc_sampling), 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, NULL, 0, 0, 0, 0}

// Some tokens in a row.
typedef struct ptgc_token_sequence {
  const ptgc_token_id* token_ids;  // The tokens.
  size_t num_tokens;               // How many.
} ptgc_token_sequence;

// One text to write.
typedef struct ptgc_request {
  size_t struct_size;                         // sizeof(ptgc_request).
  const ptgc_token_id* prompt_ids;            // What to continue; in a session, what to add first.
  size_t num_prompt_ids;                      // How many.
  const ptgc_token_id* eos_token_ids;         // Any of them ends the text; NULL: the model's.
  size_t num_eos_token_ids;                   // How many.
  const ptgc_token_sequence* stop_sequences;  // Each ends the text and is not part of it.
  size_t num_stop_sequences;                  // How many.
  const ptgc_sampling* sampling;              // NULL: the most probable tokens.
  double deadline_seconds;                    // Generation stops after this time; 0: never.
  int64_t max_new_tokens;                     // 0: 256, or as many as fit.
  int32_t ignore_eos;                         // 1: continue after the token that ends a text.
  int32_t plain;                              // 1: decode without drafts.
  int32_t ignore_defaults;                    // 1: ignore the bundle's generation defaults.
  int32_t num_steps;                          // Most rounds of a canvas; 0: the bundle's.
  double threshold;                           // Of a canvas's policy; -1: the bundle's.
} ptgc_request;
#define PTGC_REQUEST_INIT \
  {sizeof(ptgc_request), NULL, 0, NULL, 0, NULL, 0, NULL, 0.0, 0, 0, 0, 0, 0, -1.0}

// New tokens of one text, valid during the callback. A round may give several tokens, and a text
// that is refined as a whole may come as one chunk.
typedef struct ptgc_chunk {
  size_t struct_size;              // Bytes that this library fills.
  size_t index;                    // Index of the request; 0 in a session.
  size_t position;                 // New tokens before it; replaces any delivered from there on.
  const ptgc_token_id* token_ids;  // The tokens.
  size_t num_tokens;               // How many.
} ptgc_chunk;

enum { PTGC_CONTINUE = 0, PTGC_STOP = 1 };
// Receives the text while it is written, in the calling thread; must not throw. Returns
// PTGC_CONTINUE, or anything else to end that text (finish reason stop).
typedef int32_t (*ptgc_on_chunk)(void* user_data, const ptgc_chunk* chunk);

// ---- Results ------------------------------------------------------------------------------------

typedef struct ptgc_result ptgc_result;

// Why a text ended.
typedef int32_t ptgc_finish_reason;
enum {
  PTGC_FINISH_EOS = 0,        // A token that ends texts.
  PTGC_FINISH_LENGTH = 1,     // As many tokens as requested.
  PTGC_FINISH_STOP = 2,       // A stop sequence, or the callback.
  PTGC_FINISH_CANCELLED = 3,  // ptgc_session_cancel, or ptgc_generator_cancel.
  PTGC_FINISH_DEADLINE = 4    // The deadline passed.
};
// "eos", "length", ...; "unknown" for anything else.
PTGC_API const char* ptgc_finish_reason_name(ptgc_finish_reason reason);

// What was done for one text and what it cost.
typedef struct ptgc_statistics {
  size_t struct_size;           // sizeof(ptgc_statistics).
  int64_t prompt_tokens;        // Tokens before the first new one.
  int64_t new_tokens;           // Tokens written, including those of a stop sequence.
  int64_t rounds;               // Rounds after the first new token.
  int64_t plain_rounds;         // Rounds without draft tokens.
  int64_t drafted_tokens;       // Draft tokens verified, without rows that none is accepted from.
  int64_t accepted_tokens;      // Draft tokens accepted.
  const char* fallback_reason;  // Why drafts were mostly declined; NULL if they were not.
  double mean_accept_length;    // New tokens per round.
  double load_seconds;          // Time to load the build.
  double time_to_first_token;   // From the call, including waiting for a row.
  double prefill_seconds;       // From the row's start to its first new token.
  double decode_seconds;        // From the first new token to the last.
  double engine_seconds;        // Inside engine calls, part of decode_seconds.
  double draft_seconds;         // Drafting, part of decode_seconds.
  double tokens_per_second;     // New tokens after the first round that gave any / decode_seconds.
  int64_t peak_memory_bytes;    // Largest resident memory of the process so far.
  // On a device, in the rounds above; texts that share a round each count all of it.
  int64_t graph_launches;     // Engine runs that were one captured graph.
  int64_t uncaptured_runs;    // Engine runs queued piece by piece.
  int64_t synchronisations;   // Waits of the host for the device.
  double accept_seconds;      // Choosing tokens and accepting drafts, part of decode_seconds.
  double commit_seconds;      // Moving what was accepted, part of decode_seconds.
  int64_t ahead_tokens;       // Draft tokens made while the target verified others.
  int64_t ahead_used_tokens;  // How many of them were verified.
} ptgc_statistics;
#define PTGC_STATISTICS_INIT \
  {sizeof(ptgc_statistics),  \
   0,                        \
   0,                        \
   0,                        \
   0,                        \
   0,                        \
   0,                        \
   NULL,                     \
   0.0,                      \
   0.0,                      \
   0.0,                      \
   0.0,                      \
   0.0,                      \
   0.0,                      \
   0.0,                      \
   0.0,                      \
   0,                        \
   0,                        \
   0,                        \
   0,                        \
   0.0,                      \
   0.0,                      \
   0,                        \
   0}

// How drafts of one place in their trees fared.
typedef struct ptgc_draft_count {
  int32_t depth;     // 1 for the tokens right after the text.
  int32_t rank;      // Among its siblings, from 0; a chain has rank 0 alone.
  int64_t tried;     // Drafts there whose parent was accepted.
  int64_t accepted;  // How many of them were accepted.
} ptgc_draft_count;

// Pointers from a result are valid until it is freed.
PTGC_API ptgc_status ptgc_result_get_token_ids(const ptgc_result* result,
                                               const ptgc_token_id** token_ids, size_t* count);
PTGC_API ptgc_status ptgc_result_get_finish_reason(const ptgc_result* result,
                                                   ptgc_finish_reason* reason);
PTGC_API ptgc_status ptgc_result_get_statistics(const ptgc_result* result,
                                                ptgc_statistics* statistics);
// By depth and rank; none where nothing was drafted.
PTGC_API ptgc_status ptgc_result_get_draft_counts(const ptgc_result* result,
                                                  const ptgc_draft_count** counts, size_t* count);
// The seed of this text; 0 if nothing was sampled.
PTGC_API ptgc_status ptgc_result_get_seed(const ptgc_result* result, uint64_t* seed);
PTGC_API ptgc_status ptgc_result_free(ptgc_result* result);

// Writes `count` texts in the free rows of the build. Every request is checked before any runs.
// `on_chunk` may be NULL. `results` has room for `count` results, each to be freed; all are NULL on
// failure, unless `count` is above 2^20, which is refused before anything is read.
PTGC_API ptgc_status ptgc_generator_generate(ptgc_generator* generator,
                                             const ptgc_request* const* requests, size_t count,
                                             ptgc_on_chunk on_chunk, void* user_data,
                                             ptgc_result** results);
// From any thread, also from callbacks: ends the texts of calls of ptgc_generator_generate with
// this `user_data` (finish reason cancelled), including those that wait for a row.
PTGC_API ptgc_status ptgc_generator_cancel(ptgc_generator* generator, const void* user_data);

// ---- Sessions: text that stays in the cache between calls ---------------------------------------

typedef struct ptgc_session ptgc_session;

// Takes a row of the generator until the session is closed.
PTGC_API ptgc_status ptgc_session_open(ptgc_generator* generator, ptgc_session** session);
// Adds a prompt or a part of one; it is read by the next ptgc_session_generate.
PTGC_API ptgc_status ptgc_session_append(ptgc_session* session, const ptgc_token_id* token_ids,
                                         size_t count);
// Continues the text and keeps what it wrote. `on_chunk` may be NULL.
PTGC_API ptgc_status ptgc_session_generate(ptgc_session* session, const ptgc_request* request,
                                           ptgc_on_chunk on_chunk, void* user_data,
                                           ptgc_result** result);
// Drops the last `count` tokens.
PTGC_API ptgc_status ptgc_session_rewind(ptgc_session* session, size_t count);
// Drops everything.
PTGC_API ptgc_status ptgc_session_reset(ptgc_session* session);
// Another session with the same text, in its own row; the text is not read again.
PTGC_API ptgc_status ptgc_session_fork(ptgc_session* session, ptgc_session** copy);
// Number of tokens, prompt and text.
PTGC_API ptgc_status ptgc_session_get_length(ptgc_session* session, size_t* length);
// Copies the first `capacity` tokens into `token_ids`; `*length` is their total number.
PTGC_API ptgc_status ptgc_session_get_token_ids(ptgc_session* session, ptgc_token_id* token_ids,
                                                size_t capacity, size_t* length);
// From any thread: ends a running generation (finish reason cancelled).
PTGC_API ptgc_status ptgc_session_cancel(ptgc_session* session);
// Cancels a running generation, and gives the row back as soon as that has ended.
PTGC_API ptgc_status ptgc_session_close(ptgc_session* session);

// Names that begin with ptgc_text_ are reserved for functions that take and give text.

#ifdef __cplusplus
}  // extern "C"
#endif
