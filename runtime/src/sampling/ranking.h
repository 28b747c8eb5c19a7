// Ranking: the tokens of a row in descending order, sorted no further than is asked for.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "sampling/exponential.h"

namespace ptgc {

// A token of a row by its logit.
struct Candidate {
  float value = 0;      // The logit.
  std::int32_t id = 0;  // Its token.
};

// Whether a token stands before another: the larger logit, of equals the lower id.
constexpr bool Precedes(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// A token in the order, and all that is not after it.
struct Place {
  Candidate token;  // The token.
  double mass = 0;  // Of it and all before it.
};

// The mass of a token is exp((logit - largest) / temperature), so that its probability is its mass
// over the total. Tokens without mass (kLowestExponent) do not count. Nothing is computed before it
// is asked for: the first tokens are sorted at once; what is asked for beyond them is found in
// buckets of the logits' range, of which only the one in question is sorted. All storage is taken
// at construction.
class Ranking {
 public:
  static constexpr std::size_t kBlock = 64;  // Logits of a block.

  // For rows of at most `vocab_size` logits.
  explicit Ranking(std::int64_t vocab_size);

  // Takes a row and finds its largest logit. False where there is none: the row holds NaN or
  // +infinity, or nothing above -infinity. The row must stay in place as long as it is asked about.
  bool Read(std::span<const float> logits, double temperature);

  // The first token.
  const Candidate& largest() const { return largest_; }
  // The largest logit of each block of the row.
  std::span<const float> block_maxima() const { return maxima_; }
  // The mass of all tokens.
  double Total();
  // The mass of a token with this logit.
  float Mass(float value) const { return Exp((value - largest_.value) * inverse_temperature_); }

  // The first place whose mass is at least `mass`; the last where there is none.
  Place AtMass(double mass);
  // The place of the token number `rank`, which is at least 1; the last where there are fewer.
  Place AtRank(std::int64_t rank);
  // The last place whose logit is at least `value`, which is at most the largest.
  Place AtValue(double value);

 private:
  static constexpr std::size_t kHead = 64;  // Tokens sorted at once, about.
  static constexpr std::size_t kNumBuckets = 2048;
  struct Bucket {
    double mass = 0;         // Of its tokens and those of the buckets before it.
    std::int64_t count = 0;  // How many tokens those are.
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
  float inverse_temperature_ = 1;     // What the distance from the largest is multiplied with.
  bool has_total_ = false;            // Whether the total is of this row.
  double total_ = 0;                  // Mass of all tokens.
  std::vector<float> maxima_;         // [vocab_size / kBlock], the largest of each block.
  std::vector<float> sorted_maxima_;  // Scratch of the same size.
  bool has_head_ = false;             // Whether what follows is of this row.
  std::vector<Candidate> head_;       // The first tokens.
  std::vector<double> head_masses_;   // [head], of each and all before it.
  bool head_is_all_ = false;          // No other token has mass.

  bool has_buckets_ = false;               // Whether the rest is of this row.
  float bucket_scale_ = 0;                 // Buckets per unit of logit.
  std::vector<Bucket> buckets_;            // [kNumBuckets]
  std::vector<std::uint16_t> bucket_of_;   // [vocab_size]; kNumBuckets for tokens without mass.
  std::size_t open_bucket_ = kNumBuckets;  // The bucket that is sorted.
  std::vector<Candidate> members_;         // Its tokens in order.
};

}  // namespace ptgc
