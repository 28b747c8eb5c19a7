#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "penalties.h"

namespace ptgc {

Sampler::Sampler(std::int64_t vocab_size)
    : values_(static_cast<std::size_t>(vocab_size)), ranking_(vocab_size) {}

bool Sampler::Read(const LogitsRow& row, const SamplingOptions& options,
                   const TokenCounts* counts) {
  const std::size_t size = static_cast<std::size_t>(row.size);
  if (row.dtype == DType::kFloat32 && !options.has_penalties() && options.logit_bias.empty()) {
    logits_ = {static_cast<const float*>(row.data), size};
  } else {
    const std::span<float> values = std::span<float>(values_).first(size);
    row.Copy(values);
    AdjustLogits(options, counts, values);
    logits_ = values;
  }
  greedy_ = options.is_greedy();
  if (greedy_) {
    const bool chosen = ranking_.ReadLargest(logits_);
    last_ = {ranking_.largest(), 1};
    return chosen;
  }
  if (!ranking_.Read(logits_, options.temperature)) return false;
  Filter(options);
  return true;
}

// Every filter keeps a beginning of the order, so that all of them together keep the shortest.
void Sampler::Filter(const SamplingOptions& options) {
  last_ = {{-std::numeric_limits<float>::infinity(), std::numeric_limits<std::int32_t>::max()},
           ranking_.total()};
  if (options.top_k > 0) last_ = ranking_.AtRank(options.top_k);
  if (options.top_p < 1) last_ = ranking_.AtMass(options.top_p * last_.mass);
  if (options.min_p > 0) {
    const double lowest = ranking_.largest().value + options.temperature * std::log(options.min_p);
    const Place last = ranking_.AtValue(lowest);
    if (Precedes(last.token, last_.token)) last_ = last;
  }
}

TokenId Sampler::Choose(double uniform) {
  if (greedy_) return last_.token.id;
  // A token's stretch begins where the mass before it ends, and that point belongs to it.
  const double mass = std::nextafter(uniform * last_.mass, std::numeric_limits<double>::infinity());
  const Candidate token = ranking_.AtMass(mass).token;
  return Precedes(last_.token, token) ? last_.token.id : token.id;
}

float Sampler::Probability(TokenId token_id) const {
  if (token_id < 0 || token_id >= static_cast<TokenId>(logits_.size())) return 0;
  const Candidate token = {logits_[static_cast<std::size_t>(token_id)],
                           static_cast<std::int32_t>(token_id)};
  if (greedy_) return token.id == last_.token.id ? 1.0F : 0.0F;
  if (Precedes(last_.token, token)) return 0;
  return ranking_.Mass(token.value) * static_cast<float>(1 / last_.mass);
}

void Sampler::WriteProbabilities(std::span<float> probabilities) const {
  const std::size_t size = std::min(logits_.size(), probabilities.size());
  std::fill(probabilities.begin(), probabilities.end(), 0.0F);
  if (greedy_) {
    probabilities[static_cast<std::size_t>(last_.token.id)] = 1;
    return;
  }
  const Candidate last = last_.token;
  const float scale = static_cast<float>(1 / last_.mass);
  const float* logits = logits_.data();
  float* out = probabilities.data();
  for (std::size_t i = 0; i < size; ++i) {
    const float probability = ranking_.Mass(logits[i]) * scale;
    out[i] = logits[i] < last.value ? 0.0F : probability;
  }
  for (std::size_t i = static_cast<std::size_t>(last.id) + 1; i < size; ++i) {
    if (logits[i] == last.value) out[i] = 0;
  }
}

}  // namespace ptgc
