#include "sampling/residual.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace ptgc {
namespace {

constexpr std::size_t kLanes = 8;  // Independent sums, for vector instructions.

}  // namespace

double SumOf(std::span<const float> masses) {
  double sums[kLanes] = {};
  const std::size_t whole = masses.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += masses[i + lane];
  }
  for (std::size_t i = whole; i < masses.size(); ++i) sums[i - whole] += masses[i];
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

Residual::Residual(std::int64_t vocab_size) : masses_(static_cast<std::size_t>(vocab_size)) {
  sums_.reserve(masses_.size() / kBlock + 1);
}

float Residual::Mass(TokenId token_id) const {
  return token_id < static_cast<TokenId>(masses_.size())
             ? masses_[static_cast<std::size_t>(token_id)]
             : 0;
}

void Residual::Subtract(std::span<const float> q, double factor) {
  const std::size_t size = std::min(q.size(), masses_.size());
  const float scale = static_cast<float>(factor);
  float* masses = masses_.data();
  for (std::size_t i = 0; i < size; ++i) {
    const float more = masses[i] - scale * q[i];
    masses[i] = more > 0 ? more : 0;
  }
}

void Residual::Exclude(TokenId token_id) {
  if (token_id < static_cast<TokenId>(masses_.size())) {
    masses_[static_cast<std::size_t>(token_id)] = 0;
  }
}

double Residual::Sum() {
  const std::span<const float> masses = masses_;
  sums_.clear();
  total_ = 0;
  for (std::size_t first = 0; first < masses.size(); first += kBlock) {
    sums_.push_back(SumOf(masses.subspan(first, std::min(kBlock, masses.size() - first))));
    total_ += sums_.back();
  }
  return total_;
}

TokenId Residual::Choose(double uniform) const {
  // Kept below the total even if the product rounds up to it, so that a block is found.
  const double mass = std::min(uniform * total_, std::nextafter(total_, 0.0));
  double before = 0;
  std::size_t block = 0;
  while (before + sums_[block] <= mass) before += sums_[block++];
  const std::size_t end = std::min((block + 1) * kBlock, masses_.size());
  TokenId token_id = 0;
  for (std::size_t i = block * kBlock; i < end && before <= mass; ++i) {
    if (!(masses_[i] > 0)) continue;
    token_id = static_cast<TokenId>(i);
    before += masses_[i];
  }
  return token_id;
}

}  // namespace ptgc
