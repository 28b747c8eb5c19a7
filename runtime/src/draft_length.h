// DraftLength: how many draft tokens pay.
#pragma once

#include <array>
#include <span>

#include "cost_curve.h"
#include "names.h"

namespace ptgc {

// How likely a draft token is accepted, by how much text the drafter found again; learnt in one
// session. Old rounds fade, and what is not tried fades back to the prior, so that drafting is
// tried again later.
class AcceptanceEstimate {
 public:
  // Match lengths run from `shortest` to `longest`.
  AcceptanceEstimate(int shortest, int longest) : shortest_(shortest), longest_(longest) {}

  double Rate(int match_length) const;
  // A round verified `drafted` tokens in a row and kept `accepted` of them.
  void Observe(int match_length, int drafted, int accepted);
  // A round passed in which this match length was offered and not tried.
  void Skip(int match_length);

 private:
  // Decayed counts of one range of match lengths.
  struct Bucket {
    double tried = 0;  // Draft tokens verified, up to the first that was refused.
    double kept = 0;   // How many of them were accepted.
  };
  static constexpr int kBuckets = 8;

  // Where a match length lies between the shortest (0) and the longest (1).
  double Position(int match_length) const;
  std::size_t BucketOf(int match_length) const;

  int shortest_;                            // Match length of the first bucket.
  int longest_;                             // Match length of the last bucket.
  std::array<Bucket, kBuckets> buckets_{};  // Counts by match length.
};

// What one sequence's drafter offers this round.
struct DraftOffer {
  int tokens = 0;   // Draft tokens offered.
  double rate = 0;  // Probability that each is accepted, given that those before it were.
};

// Chooses the width of a round.
class DraftLength {
 public:
  DraftLength(DraftLengthMode mode, CostCurve costs, int verify_width)
      : mode_(mode), costs_(std::move(costs)), verify_width_(verify_width) {}

  // The most draft tokens that any sequence should have verified this round, 0 for none.
  // `min_width` is what the round needs without drafts (more than 1 where a prompt is read).
  //
  // With acceptance rate a, n drafts yield 1 + a + ... + a^n tokens (Leviathan et al., arXiv
  // 2211.17192, section 3.1); the width with the most expected tokens per second wins.
  int Choose(std::span<const DraftOffer> offers, int min_width) const;

 private:
  DraftLengthMode mode_;  // Whether to weigh at all.
  CostCurve costs_;       // What each width costs.
  int verify_width_;      // The widest round whose every row has logits.
};

}  // namespace ptgc
