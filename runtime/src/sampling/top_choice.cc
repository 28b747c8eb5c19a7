#include "sampling/top_choice.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "sampling/exponential.h"
#include "sampling/penalties.h"
#include "sampling/ranking.h"
#include "sampling/sampler.h"

namespace ptgc {
namespace {

// How far sums in another order, and float32 masses, may be from these.
constexpr double kSumRounding = 1e-9;
constexpr double kMassRounding = 1e-4;

// A number that is only known to lie between two.
struct Interval {
  double low = 0;
  double high = 0;
};

// How many tokens are kept, as far as is known; kUnbounded where it may be more than are settled.
struct Count {
  static constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();
  std::size_t low = 0;
  std::size_t high = kUnbounded;
};

// The beginning of a row's order that its largest logits settle, and bounds on all else. Masses are
// those of Ranking.
class TopRanking {
 public:
  // False where nothing is settled.
  bool Read(const TopLogits& top, const SamplingOptions& options, const TokenCounts* counts);
  TokenId first() const { return tokens_[0].id; }
  // What the noise chooses of the tokens that the filters keep.
  std::optional<TokenId> Choose(const SamplingOptions& options, const GumbelNoise& noise) const;

 private:
  static constexpr std::size_t kMost = 64;
  void Order(std::size_t count, bool penalized, double temperature);
  Interval Outside(const TopLogits& top, double temperature, bool penalized) const;
  Count Kept(const SamplingOptions& options) const;
  Count KeptByShare(double share, Interval mass) const;
  std::size_t At(double mass) const;

  std::array<Candidate, kMost> tokens_;  // Those given, after penalties; the settled ones first.
  std::array<double, kMost> masses_{};   // Of each settled token and all before it.
  std::size_t size_ = 0;                 // Tokens whose places are settled.
  float bound_ = 0;                      // No other token has a larger logit.
  bool is_all_ = false;                  // No other token has mass.
  Interval rest_;                        // The mass of all tokens that are not settled.
};

bool MayRaise(const SamplingOptions& options) {
  return !options.logit_bias.empty() || options.repetition_penalty < 1 ||
         options.presence_penalty < 0 || options.frequency_penalty < 0;
}

bool TopRanking::Read(const TopLogits& top, const SamplingOptions& options,
                      const TokenCounts* counts) {
  const std::size_t count = std::min(kMost, top.values.size());
  const bool penalized = options.has_penalties();
  if (count == 0 || MayRaise(options)) return false;
  for (std::size_t i = 0; i < count; ++i) {
    const float value = top.values[i];
    if (!(value < std::numeric_limits<float>::infinity())) return false;
    const TokenId id = top.token_ids[i];
    tokens_[i] = {penalized ? Penalized(value, id, options, *counts) : value,
                  static_cast<std::int32_t>(id)};
  }
  bound_ = top.values[count - 1];
  is_all_ = static_cast<std::int64_t>(count) == top.vocab_size || std::isinf(bound_);
  Order(count, penalized, options.temperature);
  if (size_ == 0 || std::isinf(tokens_[0].value)) return false;
  if (options.is_greedy() || is_all_) return true;
  const Interval outside = Outside(top, options.temperature, penalized);
  rest_.low += outside.low;
  rest_.high += outside.high;
  return true;
}

// Sorts the tokens. Those above the bound stand before all others, whatever these are; without
// penalties so do those that equal it, because the engine names the lower ids first.
void TopRanking::Order(std::size_t count, bool penalized, double temperature) {
  const auto end = tokens_.begin() + static_cast<std::ptrdiff_t>(count);
  std::sort(tokens_.begin(), end, Precedes);
  size_ = count;
  while (penalized && !is_all_ && size_ > 0 && tokens_[size_ - 1].value <= bound_) --size_;
  if (temperature == 0) return;
  const float inverse = static_cast<float>(1 / temperature);
  double mass = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double own = Exp((tokens_[i].value - tokens_[0].value) * inverse);
    mass += own;
    if (i < size_) {
      masses_[i] = mass;
    } else {
      rest_.low += own;
      rest_.high += own;
    }
  }
}

// The mass of the n tokens that were not given. With y the masses at temperature 1, of known sum R
// and none above m, and a the inverse of the temperature: y^a = y y^(a - 1) is at most R m^(a - 1)
// in sum for a >= 1 and at least for a <= 1, and by the inequality of power means n^(1 - a) R^a is
// the bound on the other side. Where nothing is known of R, n m^a is above.
Interval TopRanking::Outside(const TopLogits& top, double temperature, bool penalized) const {
  const double largest = tokens_[0].value;
  const double n = static_cast<double>(top.vocab_size) - static_cast<double>(top.values.size());
  const double a = 1 / temperature;
  const double m = std::exp(bound_ - largest);
  Interval mass = {0, n * std::exp((bound_ - largest) * a)};
  if (!std::isnan(top.log_sum_exp)) {
    double given = 0;
    for (float value : top.values) given += std::exp(value - largest);
    const double sum = std::exp(top.log_sum_exp - largest);
    const double low = std::max(0.0, sum * (1 - 2 * TopLogits::kSumError) - given);
    const double high = std::max(0.0, sum * (1 + 2 * TopLogits::kSumError) - given);
    const auto by_largest = [&](double r) { return r > 0 && m > 0 ? r * std::pow(m, a - 1) : 0; };
    const auto by_mean = [&](double r) { return std::pow(n, 1 - a) * std::pow(r, a); };
    mass.high = std::min(mass.high, a >= 1 ? by_largest(high) : by_mean(high));
    // A penalty may take any of them away.
    if (!penalized) mass.low = a >= 1 ? by_mean(low) : by_largest(low);
  }
  return {mass.low * (1 - kMassRounding), mass.high * (1 + kMassRounding)};
}

// The filters keep beginnings of the order, so that all of them together keep the shortest.
Count TopRanking::Kept(const SamplingOptions& options) const {
  const std::size_t top_k = static_cast<std::size_t>(options.top_k);
  Count kept = {size_, is_all_ ? size_ : Count::kUnbounded};
  Interval mass = {masses_[size_ - 1] + rest_.low, masses_[size_ - 1] + rest_.high};
  if (top_k > 0 && top_k <= size_) {
    kept = {top_k, top_k};
    mass.low = mass.high = masses_[top_k - 1];
  } else if (top_k > 0) {
    mass.low = masses_[size_ - 1];
  }
  if (options.top_p < 1) {
    const Count by_share = KeptByShare(options.top_p, mass);
    kept = {std::min(kept.low, by_share.low), std::min(kept.high, by_share.high)};
  }
  if (options.min_p > 0) {
    const double lowest = LowestKept(tokens_[0].value, options);
    std::size_t count = size_;
    while (tokens_[count - 1].value < lowest) --count;
    kept.low = std::min(kept.low, count);
    if (count < size_ || bound_ < lowest) kept.high = std::min(kept.high, count);
  }
  return kept;
}

// The fewest tokens whose share of a mass reaches `share`.
Count TopRanking::KeptByShare(double share, Interval mass) const {
  const std::size_t first = At(share * mass.low * (1 - kSumRounding));
  const std::size_t last = At(share * mass.high * (1 + kSumRounding));
  return {std::min(first + 1, size_), last < size_ ? last + 1 : Count::kUnbounded};
}

// The settled token that a mass falls on; size_ where it is beyond them.
std::size_t TopRanking::At(double mass) const {
  const auto end = masses_.begin() + static_cast<std::ptrdiff_t>(size_);
  return static_cast<std::size_t>(std::lower_bound(masses_.begin(), end, mass) - masses_.begin());
}

// Of the tokens that are kept for certain; the best of them wins where it leads whatever else may
// be kept by more than the noise can make up for.
std::optional<TokenId> TopRanking::Choose(const SamplingOptions& options,
                                          const GumbelNoise& noise) const {
  const Count kept = Kept(options);
  Candidate winner;
  double best = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < kept.low; ++i) {
    const Candidate& token = tokens_[i];
    const double score = Score(token.value, options.temperature, noise.At(token.id));
    if (i > 0 && (score < best || (score == best && token.id > winner.id))) continue;
    winner = token;
    best = score;
  }
  if (kept.low < kept.high) {
    const float next = kept.low < size_ ? tokens_[kept.low].value : bound_;
    if (!(Score(next, options.temperature, GumbelNoise::kMost) < best)) return std::nullopt;
  }
  return winner.id;
}

}  // namespace

std::optional<TokenId> ChooseFromTop(const TopLogits& top, const SamplingOptions& options,
                                     const TokenCounts* counts, const GumbelNoise& noise) {
  TopRanking ranking;
  if (!ranking.Read(top, options, counts)) return std::nullopt;
  if (options.is_greedy()) return ranking.first();
  return ranking.Choose(options, noise);
}

}  // namespace ptgc
