#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sampling/logarithm.h"
#include "sampling/penalties.h"

namespace ptgc {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The smallest logit of a row that min_p, which must be above 0, keeps.
double LowestKept(float largest, const SamplingOptions& options) {
  // Log is exact down to the smallest normal number; below it, no token has any mass.
  return largest + options.temperature * Log(std::max(options.min_p, 0x1p-1022));
}

}  // namespace

Sampler::Sampler(std::int64_t vocab_size)
    : values_(static_cast<std::size_t>(vocab_size)), ranking_(vocab_size) {}

bool Sampler::Read(const LogitsRow& row, const SamplingOptions& options,
                   const TokenCounts* counts) {
  return ReadAt(options.temperature, row, options, counts);
}

bool Sampler::ReadDistribution(const LogitsRow& row, const SamplingOptions& options,
                               const TokenCounts* counts) {
  return ReadAt(options.is_greedy() ? 1 : options.temperature, row, options, counts);
}

bool Sampler::ReadAt(double temperature, const LogitsRow& row, const SamplingOptions& options,
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
  temperature_ = temperature;
  if (!ranking_.Read(logits_, temperature == 0 ? 1 : temperature)) return false;
  KeepAll();
  if (temperature == 0) {
    last_ = {ranking_.largest(), 1};
  } else if (!options.is_greedy()) {
    Filter(options);
  }
  return true;
}

void Sampler::KeepAll() {
  last_ = {{-kInfinity, std::numeric_limits<std::int32_t>::max()}, 0};
  has_filters_ = false;
}

// Every filter keeps a prefix of the order, so together they keep the shortest prefix.
void Sampler::Filter(const SamplingOptions& options) {
  has_filters_ = options.top_k > 0 || options.top_p < 1 || options.min_p > 0;
  if (options.top_k > 0) last_ = ranking_.AtRank(options.top_k);
  if (options.top_p < 1) {
    last_ = ranking_.AtMass(options.top_p * (options.top_k > 0 ? last_.mass : ranking_.Total()));
  }
  if (options.min_p > 0) {
    const Place last = ranking_.AtValue(LowestKept(ranking_.largest().value, options));
    if (Precedes(last.token, last_.token)) last_ = last;
  }
}

// The first token so far.
struct Sampler::Leader {
  std::span<const TokenId> others;  // Tokens that are excluded.
  double score = -std::numeric_limits<double>::infinity();
  TokenId id = std::numeric_limits<TokenId>::max();

  // Whether a token with a score of at most `bound`, up to rounding, may beat it.
  bool IsReachedBy(double bound) const {
    return bound + 1e-6 + std::fabs(score) * 0x1p-48 >= score;
  }
  void Meet(double other, TokenId other_id) {
    if (other < score || (other == score && other_id >= id)) return;
    if (std::find(others.begin(), others.end(), other_id) != others.end()) return;
    score = other;
    id = other_id;
  }
};

// The block with the largest logit comes first: few other blocks can reach its best score, so for
// most only a bound of the noise is computed.
TokenId Sampler::Choose(const GumbelNoise& noise, std::span<const TokenId> others) const {
  if (temperature_ == 0) return others.empty() ? last_.token.id : LargestBut(others);
  static_assert(Ranking::kBlock == GumbelNoise::kBlock);
  const double inverse_temperature = 1 / temperature_;
  const std::span<const float> maxima = ranking_.block_maxima();
  const std::size_t first = static_cast<std::size_t>(ranking_.largest().id) / Ranking::kBlock;
  Leader leader{others};
  RaceBlock(noise, first, leader);
  for (std::size_t block = 0; block < maxima.size(); ++block) {
    if (block == first || maxima[block] < last_.token.value) continue;
    const double largest = maxima[block] * inverse_temperature;
    if (!leader.IsReachedBy(largest + GumbelNoise::kMost)) continue;
    const float bound = noise.BlockBound(static_cast<std::int64_t>(block));
    if (leader.IsReachedBy(largest + static_cast<double>(bound))) RaceBlock(noise, block, leader);
  }
  return leader.id == Leader().id ? kNoToken : leader.id;
}

TokenId Sampler::LargestBut(std::span<const TokenId> others) const {
  Leader leader{others};
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    if (logits_[i] == -kInfinity) continue;
    leader.Meet(static_cast<double>(logits_[i]), static_cast<TokenId>(i));
  }
  return leader.id == Leader().id ? kNoToken : leader.id;
}

void Sampler::RaceBlock(const GumbelNoise& noise, std::size_t block, Leader& leader) const {
  const double bound = noise.BlockBound(static_cast<std::int64_t>(block));
  const double inverse_temperature = 1 / temperature_;
  const std::size_t end = std::min((block + 1) * Ranking::kBlock, logits_.size());
  for (std::size_t i = block * Ranking::kBlock; i < end; ++i) {
    if (!leader.IsReachedBy(logits_[i] * inverse_temperature + bound)) continue;
    const Candidate token = {logits_[i], static_cast<std::int32_t>(i)};
    if (Precedes(last_.token, token)) continue;
    leader.Meet(Score(token.value, temperature_, noise.At(token.id)), token.id);
  }
}

float Sampler::Probability(TokenId token_id) {
  if (token_id < 0 || token_id >= static_cast<TokenId>(logits_.size())) return 0;
  const Candidate token = {logits_[static_cast<std::size_t>(token_id)],
                           static_cast<std::int32_t>(token_id)};
  if (temperature_ == 0) return token.id == last_.token.id ? 1.0F : 0.0F;
  if (Precedes(last_.token, token)) return 0;
  return ranking_.Mass(token.value) * static_cast<float>(1 / KeptMass());
}

void Sampler::WriteProbabilities(std::span<float> probabilities) {
  const std::size_t size = std::min(logits_.size(), probabilities.size());
  std::fill(probabilities.begin(), probabilities.end(), 0.0F);
  if (temperature_ == 0) {
    probabilities[static_cast<std::size_t>(last_.token.id)] = 1;
    return;
  }
  const Candidate last = last_.token;
  const float scale = static_cast<float>(1 / KeptMass());
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

// With m the masses and K their sum, -ln p = ln K - ln m, and -ln m is the distance from the
// largest logit.
double Sampler::Entropy() {
  if (temperature_ == 0) return 0;
  const double kept = KeptMass();
  const double inverse_temperature = 1 / temperature_;
  double sum = 0;
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    const Candidate token = {logits_[i], static_cast<std::int32_t>(i)};
    const double mass = static_cast<double>(ranking_.Mass(token.value));
    if (mass == 0 || Precedes(last_.token, token)) continue;
    const double distance = static_cast<double>(ranking_.largest().value) - token.value;
    sum += mass * distance * inverse_temperature;
  }
  return Log(kept) + sum / kept;
}

TokenId Sampler::AtRank(std::int64_t rank) {
  const Candidate token = temperature_ == 0 ? last_.token : ranking_.AtRank(rank).token;
  return Precedes(last_.token, token) ? last_.token.id : token.id;
}

bool Sampler::IsNearBest(TokenId token_id, std::int64_t top_k, double margin) {
  if (!(Probability(token_id) > 0)) return false;
  const Candidate token = {logits_[static_cast<std::size_t>(token_id)],
                           static_cast<std::int32_t>(token_id)};
  const double distance = static_cast<double>(ranking_.largest().value) - token.value;
  return distance <= margin * temperature_ && !Precedes(ranking_.AtRank(top_k).token, token);
}

}  // namespace ptgc
