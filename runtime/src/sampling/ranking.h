// Ranking: the tokens of a row in descending order, sorted only as far as needed.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/exponential.h"

namespace ptgc {

// A token of a row and its logit.
struct Candidate {
  float value = 0;      // The logit.
  std::int32_t id = 0;  // Its token.
};

// Whether a token comes before another: the larger logit, or the lower id if equal.
constexpr bool Precedes(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// A token in the order, with the mass up to it.
struct Place {
  Candidate token;  // The token.
  double mass = 0;  // Mass of it and all before it.
};

// The mass of a token is exp((logit - largest) / temperature), so that its probability is its mass
// over the total. Tokens without mass (kLowestExponent) do not count. Everything is computed on
// demand: the first tokens are sorted at once; later ones are found in buckets of the logits'
// range, of which only the needed one is sorted. All storage is allocated at construction.
class Ranking {
 public:
  static constexpr std::size_t kBlock = 64;  // Logits of a block.

  // For rows of at most `vocab_size` logits.
  explicit Ranking(std::int64_t vocab_size);

  // Takes a row and finds its largest logit. False if there is none: the row contains NaN or
  // +infinity, or nothing above -infinity. The row must stay valid while the methods below are
  // used.
  bool Read(std::span<const float> logits, double temperature);

  // The first token.
  const Candidate& largest() const { return largest_; }
  // The largest logit of each block of the row.
  std::span<const float> block_maxima() const { return maxima_; }
  // The mass of all tokens.
  double Total();
  // The mass of a token with this logit.
  float Mass(float value) const { return Exp((value - largest_.value) * inverse_temperature_); }

  // The first place whose mass is at least `mass`; the last place if there is none.
  Place AtMass(double mass);
  // The place of token number `rank`, which is at least 1; the last place if there are fewer.
  Place AtRank(std::int64_t rank);
  // The last place whose logit is at least `value`, which is at most the largest.
  Place AtValue(double value);

 private:
  static constexpr std::size_t kHead = 64;  // About how many tokens are sorted at once.
  static constexpr std::size_t kNumBuckets = 2048;
  struct Bucket {
    double mass = 0;         // Mass of its tokens and those of earlier buckets.
    std::int64_t count = 0;  // Number of those tokens.
  };

  bool FindMaxima();
  void FindTotal();
  void SortHead();
  void FillBuckets();
  void Accumulate(std::size_t first, std::size_t size);
  std::size_t BucketOf(float value) const;
  double MassBefore(std::size_t bucket) const {
    return bucket == 0 ? 0 : buckets_[bucket - 1].mass;
  }
  std::int64_t CountBefore(std::size_t bucket) const {
    return bucket == 0 ? 0 : buckets_[bucket - 1].count;
  }
  void OpenBucket(std::size_t bucket);
  Place HeadPlace(std::size_t index) const { return {head_[index], head_masses_[index]}; }
  // The place of a member of the open bucket.
  Place MemberPlace(std::size_t bucket, std::size_t index) const;

  std::span<const float> logits_;     // The row.
  Candidate largest_;                 // Its first token.
  float inverse_temperature_ = 1;     // Factor of the distance from the largest.
  bool has_total_ = false;            // Whether the total is that of this row.
  double total_ = 0;                  // Mass of all tokens.
  std::vector<float> maxima_;         // [vocab_size / kBlock], the largest of each block.
  std::vector<float> sorted_maxima_;  // Scratch of the same size.
  bool has_head_ = false;             // Whether the head is that of this row.
  std::vector<Candidate> head_;       // The first tokens.
  std::vector<double> head_masses_;   // [head], mass of each and all before it.
  bool head_is_all_ = false;          // Whether no other token has mass.

  bool has_buckets_ = false;               // Whether the buckets are those of this row.
  float bucket_scale_ = 0;                 // Buckets per unit of logit.
  std::vector<Bucket> buckets_;            // [kNumBuckets]
  std::vector<std::uint16_t> bucket_of_;   // [vocab_size]; kNumBuckets for tokens without mass.
  std::size_t open_bucket_ = kNumBuckets;  // The bucket that is sorted.
  std::vector<Candidate> members_;         // Its tokens in order.
};

}  // namespace ptgc
