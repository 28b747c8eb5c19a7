#include "sampling/penalties.h"

#include <cstddef>

namespace ptgc {

void AdjustLogits(const SamplingOptions& options, const TokenCounts* counts,
                  std::span<float> logits) {
  for (const LogitBias& entry : options.logit_bias) {
    logits[static_cast<std::size_t>(entry.token_id)] += entry.bias;
  }
  if (!options.has_penalties()) return;
  for (TokenId id : counts->token_ids()) {
    float& logit = logits[static_cast<std::size_t>(id)];
    logit = Penalized(logit, id, options, *counts);
  }
}

// In float32, with the same operations as transformers and vLLM, so that ties are the same too.
float Penalized(float logit, TokenId token_id, const SamplingOptions& options,
                const TokenCounts& counts) {
  if (!counts.contains(token_id)) return logit;
  const float repetition = static_cast<float>(options.repetition_penalty);
  logit = logit > 0 ? logit / repetition : logit * repetition;
  const int generated = counts.generated(token_id);
  if (generated == 0) return logit;
  logit -= static_cast<float>(options.frequency_penalty) * static_cast<float>(generated);
  return logit - static_cast<float>(options.presence_penalty);
}

}  // namespace ptgc
