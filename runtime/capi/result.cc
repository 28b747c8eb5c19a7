// The functions of results.
#include <array>
#include <cstddef>
#include <memory>
#include <string_view>

#include "base/names.h"
#include "handles.h"
#include "ptgc.h"
#include "sized_struct.h"
#include "status.h"

namespace ptgc::capi {
namespace {

// Size of version 1 of the API: up to its last field.
constexpr std::size_t kStatisticsSize =
    offsetof(ptgc_statistics, peak_memory_bytes) + sizeof(ptgc_statistics::peak_memory_bytes);
static_assert(static_cast<int>(FinishReason::kEos) == PTGC_FINISH_EOS &&
              static_cast<int>(FinishReason::kLength) == PTGC_FINISH_LENGTH &&
              static_cast<int>(FinishReason::kStop) == PTGC_FINISH_STOP &&
              static_cast<int>(FinishReason::kCancelled) == PTGC_FINISH_CANCELLED &&
              static_cast<int>(FinishReason::kDeadline) == PTGC_FINISH_DEADLINE);

ptgc_statistics Describe(const Statistics& from) {
  ptgc_statistics to = PTGC_STATISTICS_INIT;
  to.prompt_tokens = from.prompt_tokens;
  to.new_tokens = from.new_tokens;
  to.rounds = from.rounds;
  to.plain_rounds = from.plain_rounds;
  to.drafted_tokens = from.drafted_tokens;
  to.accepted_tokens = from.accepted_tokens;
  to.fallback_reason = from.fallback_reason ? from.fallback_reason->c_str() : nullptr;
  to.mean_accept_length = from.mean_accept_length;
  to.load_seconds = from.load_seconds;
  to.time_to_first_token = from.time_to_first_token;
  to.prefill_seconds = from.prefill_seconds;
  to.decode_seconds = from.decode_seconds;
  to.engine_seconds = from.engine_seconds;
  to.draft_seconds = from.draft_seconds;
  to.tokens_per_second = from.tokens_per_second;
  to.peak_memory_bytes = from.peak_memory_bytes;
  to.graph_launches = from.graph_launches;
  to.uncaptured_runs = from.uncaptured_runs;
  to.synchronisations = from.synchronisations;
  to.accept_seconds = from.accept_seconds;
  to.commit_seconds = from.commit_seconds;
  to.ahead_tokens = from.ahead_tokens;
  to.ahead_used_tokens = from.ahead_used_tokens;
  return to;
}

}  // namespace
}  // namespace ptgc::capi

using namespace ptgc::capi;  // NOLINT: this file defines functions of the C API only

extern "C" {

const char* ptgc_finish_reason_name(ptgc_finish_reason reason) {
  constexpr auto& kNames = ptgc::Names<ptgc::FinishReason>::kAll;
  const bool known = reason >= 0 && static_cast<std::size_t>(reason) < kNames.size();
  return known ? kNames[static_cast<std::size_t>(reason)].data() : "unknown";
}

ptgc_status ptgc_result_get_token_ids(const ptgc_result* result, const ptgc_token_id** token_ids,
                                      size_t* count) {
  return Guarded([&] {
    RequirePointer(token_ids, "token_ids");
    RequirePointer(count, "count");
    const std::shared_ptr<ResultState> state = Results().Find(result);
    *token_ids = state->result.token_ids.data();
    *count = state->result.token_ids.size();
  });
}

ptgc_status ptgc_result_get_finish_reason(const ptgc_result* result, ptgc_finish_reason* reason) {
  return Guarded([&] {
    RequirePointer(reason, "reason");
    *reason = static_cast<ptgc_finish_reason>(Results().Find(result)->result.finish_reason);
  });
}

ptgc_status ptgc_result_get_statistics(const ptgc_result* result, ptgc_statistics* statistics) {
  return Guarded([&] {
    const std::shared_ptr<ResultState> state = Results().Find(result);
    WriteSized(statistics, Describe(state->result.statistics), kStatisticsSize, "ptgc_statistics");
  });
}

ptgc_status ptgc_result_get_draft_counts(const ptgc_result* result, const ptgc_draft_count** counts,
                                         size_t* count) {
  return Guarded([&] {
    RequirePointer(counts, "counts");
    RequirePointer(count, "count");
    const std::shared_ptr<ResultState> state = Results().Find(result);
    *counts = state->draft_counts.data();
    *count = state->draft_counts.size();
  });
}

ptgc_status ptgc_result_get_seed(const ptgc_result* result, uint64_t* seed) {
  return Guarded([&] {
    RequirePointer(seed, "seed");
    *seed = Results().Find(result)->seed;
  });
}

ptgc_status ptgc_result_free(ptgc_result* result) {
  return Guarded([&] {
    if (result != nullptr) Results().Remove(result);
  });
}

}  // extern "C"
