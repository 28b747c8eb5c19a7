#include "drafters/draft_length.h"

#include <algorithm>

namespace ptgc {
namespace {

constexpr double kPriorOfShortest = 0.5;
constexpr double kPriorOfLongest = 0.85;
constexpr double kPriorTokens = 2;  // Draft tokens that the prior is worth.
constexpr double kKeepTried = 0.9;  // What a round leaves of the counts it adds to ...
constexpr double kKeepIdle = 0.97;  // ... and of those it could have added to.

}  // namespace

double AcceptanceEstimate::Position(int match_length) const {
  if (longest_ <= shortest_) return 1;
  const double position = static_cast<double>(match_length - shortest_) / (longest_ - shortest_);
  return std::clamp(position, 0.0, 1.0);
}

std::size_t AcceptanceEstimate::BucketOf(int match_length) const {
  return static_cast<std::size_t>(Position(match_length) * (kBuckets - 1));
}

double AcceptanceEstimate::Rate(int match_length) const {
  const Bucket& bucket = buckets_[BucketOf(match_length)];
  const double prior =
      kPriorOfShortest + (kPriorOfLongest - kPriorOfShortest) * Position(match_length);
  return (bucket.kept + prior * kPriorTokens) / (bucket.tried + kPriorTokens);
}

void AcceptanceEstimate::Observe(int match_length, int drafted, int accepted) {
  Bucket& bucket = buckets_[BucketOf(match_length)];
  bucket.tried = bucket.tried * kKeepTried + std::min(accepted + 1, drafted);
  bucket.kept = bucket.kept * kKeepTried + accepted;
}

void AcceptanceEstimate::Skip(int match_length) {
  Bucket& bucket = buckets_[BucketOf(match_length)];
  bucket.tried *= kKeepIdle;
  bucket.kept *= kKeepIdle;
}

double DraftLength::Reach(std::span<DraftOffer> offers, int drafts) {
  double added = 0;
  for (DraftOffer& offer : offers) {
    if (drafts > offer.tokens) continue;
    offer.reached *= offer.rate;
    added += offer.reached;
  }
  return added;
}

int DraftLength::Rows(std::span<const DraftOffer> offers, int drafts) {
  int rows = 1;
  for (const DraftOffer& offer : offers) {
    rows = std::max(rows, offer.chunk + std::min(drafts, offer.tokens));
  }
  return rows;
}

}  // namespace ptgc
