#include "reference_distribution.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <numeric>

#include "sampling/random.h"

namespace ptgc {
namespace {

std::vector<double> Adjusted(std::span<const float> logits, const SamplingOptions& options,
                             const Text& text) {
  std::vector<double> adjusted(logits.begin(), logits.end());
  for (const LogitBias& entry : options.logit_bias) {
    adjusted[static_cast<std::size_t>(entry.token_id)] += entry.bias;
  }
  for (std::size_t i = 0; i < adjusted.size(); ++i) {
    const TokenId id = static_cast<TokenId>(i);
    const auto before = std::count(text.prompt.begin(), text.prompt.end(), id);
    const auto after = std::count(text.generated.begin(), text.generated.end(), id);
    double& logit = adjusted[i];
    if (before + after > 0) {
      logit = logit > 0 ? logit / options.repetition_penalty : logit * options.repetition_penalty;
    }
    logit -= options.frequency_penalty * static_cast<double>(after);
    if (after > 0) logit -= options.presence_penalty;
  }
  return adjusted;
}

}  // namespace

std::vector<double> ReferenceDistribution(std::span<const float> logits,
                                          const SamplingOptions& options, const Text& text) {
  const std::vector<double> adjusted = Adjusted(logits, options, text);
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return adjusted[a] > adjusted[b] || (adjusted[a] == adjusted[b] && a < b);
  });
  std::vector<double> result(logits.size(), 0);
  if (options.temperature == 0) {
    result[order[0]] = 1;
    return result;
  }
  std::vector<double> masses;
  for (std::size_t id : order) {
    masses.push_back(std::exp((adjusted[id] - adjusted[order[0]]) / options.temperature));
  }
  if (options.top_k > 0 && options.top_k < static_cast<std::int64_t>(masses.size())) {
    masses.resize(static_cast<std::size_t>(options.top_k));
  }
  const double left = std::accumulate(masses.begin(), masses.end(), 0.0);
  double before = 0;
  std::size_t kept = 0;
  while (kept < masses.size() && (options.top_p == 1 || before < options.top_p * left)) {
    before += masses[kept++];
  }
  masses.resize(kept);
  while (masses.back() < options.min_p) masses.pop_back();
  const double total = std::accumulate(masses.begin(), masses.end(), 0.0);
  for (std::size_t i = 0; i < masses.size(); ++i) result[order[i]] = masses[i] / total;
  return result;
}

std::vector<float> MadeUpLogits(std::int64_t size, Spread spread, std::uint64_t seed) {
  std::vector<float> logits;
  for (std::int64_t i = 0; i < size; ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - Uniform(seed, i, RandomStream::kChoose)));
    const double angle = 2 * std::numbers::pi * Uniform(seed, i, RandomStream::kDraft);
    const double normal = radius * std::cos(angle);
    double logit = 2.5 * normal;
    if (spread == Spread::kFlat) logit = 0.01 * normal;
    if (spread == Spread::kPeaked) logit = normal * std::fabs(normal) * 4 - 20;
    if (spread == Spread::kTied) logit = std::round(2 * normal) / 2;
    if (spread == Spread::kMasked && normal < 0) logit = -std::numeric_limits<float>::infinity();
    logits.push_back(static_cast<float>(logit));
  }
  // A row has at least one token that is possible.
  if (spread == Spread::kMasked) logits[0] = 1;
  return logits;
}

}  // namespace ptgc
