#include "sampling/ranking.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace ptgc {
namespace {

constexpr std::size_t kLanes = 16;   // Independent sums and maxima, for vector instructions.
constexpr std::size_t kChunk = 256;  // Logits handled at once in scratch on the stack.
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The largest of `kSize` values, by halving; of NaN and a number it may return either.
template <std::size_t kSize>
float LargestOf(const float* values) {
  if constexpr (kSize == 1) {
    return values[0];
  } else {
    constexpr std::size_t kHalf = kSize / 2;
    float larger[kHalf];
    for (std::size_t i = 0; i < kHalf; ++i) {
      larger[i] = values[i] < values[i + kHalf] ? values[i + kHalf] : values[i];
    }
    return LargestOf<kHalf>(larger);
  }
}

// Whether a block contains NaN. One half is compared with the other, because one comparison detects
// NaN on either side.
bool HasNan(std::span<const float> block) {
  const std::size_t half = block.size() / 2;
  const float* second = block.data() + block.size() - half;
  int found = std::isnan(block[half]) ? 1 : 0;
  for (std::size_t i = 0; i < half; ++i) found |= std::isunordered(block[i], second[i]) ? -1 : 0;
  return found != 0;
}

// The smallest value of a row that is not below `floor`.
float LowestFrom(float floor, std::span<const float> values) {
  float minima[kLanes];
  std::fill(minima, minima + kLanes, kInfinity);
  const std::size_t whole = values.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float value = values[i + lane];
      minima[lane] = value < minima[lane] ? value : minima[lane];
    }
  }
  float lowest = *std::min_element(minima, minima + kLanes);
  for (std::size_t i = whole; i < values.size(); ++i) lowest = std::min(lowest, values[i]);
  return std::max(lowest, floor);
}

void SortInOrder(std::vector<Candidate>& candidates) {
  // Tokens with equal logits were collected by id and are already in order.
  if (std::is_sorted(candidates.begin(), candidates.end(), Precedes)) return;
  std::sort(candidates.begin(), candidates.end(), Precedes);
}

}  // namespace

Ranking::Ranking(std::int64_t vocab_size) : buckets_(kNumBuckets) {
  const std::size_t size = static_cast<std::size_t>(vocab_size);
  maxima_.reserve(size / kBlock + 1);
  sorted_maxima_.reserve(size / kBlock + 1);
  head_.reserve(size);
  head_masses_.reserve(size);
  bucket_of_.resize(size);
  members_.reserve(size);
}

bool Ranking::Read(std::span<const float> logits, double temperature) {
  logits_ = logits;
  inverse_temperature_ = static_cast<float>(1 / temperature);
  has_total_ = false;
  has_head_ = false;
  has_buckets_ = false;
  if (!FindMaxima()) return false;
  const auto block = std::max_element(maxima_.begin(), maxima_.end());
  if (block == maxima_.end() || !std::isfinite(*block)) return false;
  const auto begin = logits.begin() + (block - maxima_.begin()) * static_cast<int>(kBlock);
  const auto at = std::find(begin, logits.end(), *block);
  largest_ = {*block, static_cast<std::int32_t>(at - logits.begin())};
  return true;
}

// False if the row contains NaN, which a block's maximum may not show.
bool Ranking::FindMaxima() {
  maxima_.clear();
  bool has_nan = false;
  for (std::size_t first = 0; first < logits_.size(); first += kBlock) {
    const std::span<const float> block =
        logits_.subspan(first, std::min(kBlock, logits_.size() - first));
    maxima_.push_back(block.size() == kBlock ? LargestOf<kBlock>(block.data())
                                             : *std::max_element(block.begin(), block.end()));
    has_nan |= HasNan(block);
  }
  return !has_nan;
}

double Ranking::Total() {
  if (!has_total_) FindTotal();
  has_total_ = true;
  return total_;
}

void Ranking::FindTotal() {
  double sums[kLanes] = {};
  const std::size_t whole = logits_.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    float masses[kLanes];
    for (std::size_t lane = 0; lane < kLanes; ++lane) masses[lane] = Mass(logits_[i + lane]);
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += masses[lane];
  }
  for (std::size_t i = whole; i < logits_.size(); ++i) sums[i - whole] += Mass(logits_[i]);
  total_ = 0;
  for (double sum : sums) total_ += sum;
}

// Sorts all tokens that are at least as large as the kHead-th largest block maximum: about kHead
// tokens, and certainly a prefix of the order.
void Ranking::SortHead() {
  const std::size_t rank = std::min(kHead, maxima_.size() / 2);
  float lowest = -kInfinity;
  if (rank > 0) {
    sorted_maxima_.assign(maxima_.begin(), maxima_.end());
    const auto at = sorted_maxima_.begin() + static_cast<std::ptrdiff_t>(rank) - 1;
    std::nth_element(sorted_maxima_.begin(), at, sorted_maxima_.end(), std::greater<>());
    lowest = *at;
  }
  head_is_all_ = !(Mass(lowest) > 0);
  head_.clear();
  head_masses_.clear();
  for (std::size_t block = 0; block < maxima_.size(); ++block) {
    if (maxima_[block] < lowest) continue;
    const std::size_t end = std::min((block + 1) * kBlock, logits_.size());
    for (std::size_t i = block * kBlock; i < end; ++i) {
      if (logits_[i] < lowest || !(Mass(logits_[i]) > 0)) continue;
      head_.push_back({logits_[i], static_cast<std::int32_t>(i)});
    }
  }
  SortInOrder(head_);
  double mass = 0;
  for (const Candidate& candidate : head_) {
    mass += Mass(candidate.value);
    head_masses_.push_back(mass);
  }
  has_head_ = true;
}

std::size_t Ranking::BucketOf(float value) const {
  constexpr float kLast = static_cast<float>(kNumBuckets - 1);
  const float bucket = (largest_.value - value) * bucket_scale_;
  return static_cast<std::size_t>(bucket < kLast ? bucket : kLast);
}

// Divides the range of all logits with mass evenly into buckets. A larger logit is never in a later
// bucket, because rounded subtraction and multiplication preserve order.
void Ranking::FillBuckets() {
  const float floor = largest_.value + kLowestExponent / inverse_temperature_;
  const float range = largest_.value - LowestFrom(floor, logits_);
  bucket_scale_ = range > 0 ? static_cast<float>(kNumBuckets) / range : 0;
  std::fill(buckets_.begin(), buckets_.end(), Bucket());
  for (std::size_t first = 0; first < logits_.size(); first += kChunk) {
    Accumulate(first, std::min(kChunk, logits_.size() - first));
  }
  for (std::size_t bucket = 1; bucket < kNumBuckets; ++bucket) {
    buckets_[bucket].mass += buckets_[bucket - 1].mass;
    buckets_[bucket].count += buckets_[bucket - 1].count;
  }
  has_buckets_ = true;
  open_bucket_ = kNumBuckets;
}

void Ranking::Accumulate(std::size_t first, std::size_t size) {
  float masses[kChunk];
  const float* values = logits_.data() + first;
  for (std::size_t i = 0; i < size; ++i) masses[i] = Mass(values[i]);
  for (std::size_t i = 0; i < size; ++i) {
    const bool counts = masses[i] > 0;
    const std::size_t bucket = counts ? BucketOf(values[i]) : kNumBuckets;
    bucket_of_[first + i] = static_cast<std::uint16_t>(bucket);
    if (!counts) continue;
    buckets_[bucket].mass += masses[i];
    ++buckets_[bucket].count;
  }
}

void Ranking::OpenBucket(std::size_t bucket) {
  if (open_bucket_ == bucket) return;
  open_bucket_ = bucket;
  members_.clear();
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    if (bucket_of_[i] == bucket) members_.push_back({logits_[i], static_cast<std::int32_t>(i)});
  }
  SortInOrder(members_);
}

Place Ranking::MemberPlace(std::size_t bucket, std::size_t index) const {
  double mass = MassBefore(bucket);
  for (std::size_t i = 0; i <= index; ++i) mass += Mass(members_[i].value);
  return {members_[index], mass};
}

Place Ranking::AtMass(double mass) {
  if (!has_head_) SortHead();
  if (head_is_all_ || head_masses_.back() >= mass) {
    const auto at = std::lower_bound(head_masses_.begin(), head_masses_.end(), mass);
    const std::size_t index = static_cast<std::size_t>(at - head_masses_.begin());
    return HeadPlace(std::min(index, head_.size() - 1));
  }
  if (!has_buckets_) FillBuckets();
  // Empty buckets have the mass of the one before them, so they are never the first to reach it. A
  // mass beyond all of them, because of rounding, gives the last token.
  const double reachable = std::min(mass, buckets_.back().mass);
  const auto at =
      std::partition_point(buckets_.begin(), buckets_.end(),
                           [reachable](const Bucket& bucket) { return bucket.mass < reachable; });
  const std::size_t bucket = static_cast<std::size_t>(at - buckets_.begin());
  OpenBucket(bucket);
  double reached = MassBefore(bucket);
  std::size_t index = 0;
  for (; index < members_.size(); ++index) {
    reached += Mass(members_[index].value);
    if (reached >= reachable) return {members_[index], reached};
  }
  return {members_.back(), reached};
}

Place Ranking::AtRank(std::int64_t rank) {
  if (!has_head_) SortHead();
  const std::int64_t sorted = static_cast<std::int64_t>(head_.size());
  if (head_is_all_ || rank <= sorted) {
    return HeadPlace(static_cast<std::size_t>(std::min(rank, sorted)) - 1);
  }
  if (!has_buckets_) FillBuckets();
  const std::int64_t reachable = std::min(rank, buckets_.back().count);
  const auto at =
      std::partition_point(buckets_.begin(), buckets_.end(),
                           [reachable](const Bucket& bucket) { return bucket.count < reachable; });
  const std::size_t bucket = static_cast<std::size_t>(at - buckets_.begin());
  OpenBucket(bucket);
  return MemberPlace(bucket, static_cast<std::size_t>(reachable - CountBefore(bucket)) - 1);
}

Place Ranking::AtValue(double value) {
  if (!has_head_) SortHead();
  const auto reaches = [value](const Candidate& token) { return token.value >= value; };
  if (head_is_all_ || !reaches(head_.back())) {
    const auto at = std::partition_point(head_.begin(), head_.end(), reaches);
    return HeadPlace(static_cast<std::size_t>(at - head_.begin()) - 1);
  }
  if (!has_buckets_) FillBuckets();
  // The bucket for a logit of this value, rounded up to float32; if all its tokens are below the
  // value, the last token of an earlier bucket.
  float bound = static_cast<float>(value);
  if (bound < value) bound = std::nextafter(bound, kInfinity);
  for (std::size_t bucket = BucketOf(bound);; --bucket) {
    if (buckets_[bucket].count == CountBefore(bucket)) continue;
    OpenBucket(bucket);
    const auto at = std::partition_point(members_.begin(), members_.end(), reaches);
    if (at != members_.begin()) {
      return MemberPlace(bucket, static_cast<std::size_t>(at - members_.begin()) - 1);
    }
  }
}

}  // namespace ptgc
