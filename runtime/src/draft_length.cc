#include "draft_length.h"

#include <algorithm>

namespace ptgc {
namespace {

constexpr double kPriorOfShortest = 0.5;
constexpr double kPriorOfLongest = 0.85;
constexpr double kPriorTokens = 2;  // Draft tokens that the prior is worth.
constexpr double kKeepTried = 0.9;  // What a round leaves of the counts it adds to ...
constexpr double kKeepIdle = 0.97;  // ... and of those it could have added to.

double ExpectedTokens(double rate, int drafts) {
  double expected = 1;
  double reached = 1;
  for (int i = 0; i < drafts; ++i) {
    reached *= rate;
    expected += reached;
  }
  return expected;
}

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

int DraftLength::Choose(std::span<const DraftOffer> offers, int min_width) const {
  int most = 0;
  for (const DraftOffer& offer : offers) most = std::max(most, offer.tokens);
  most = std::min(most, verify_width_ - 1);
  if (mode_ == DraftLengthMode::kFixed || most == 0) return most;
  double best_pace = 0;
  int best = 0;
  for (std::size_t i = 0; i < costs_.widths().size(); ++i) {
    const int width = costs_.widths()[i];
    if (width < min_width) continue;
    const int drafts = std::min(width - 1, most);
    double expected = 0;
    for (const DraftOffer& offer : offers) {
      expected += ExpectedTokens(offer.rate, std::min(drafts, offer.tokens));
    }
    const double pace = expected / costs_.At(i);
    if (pace > best_pace) {
      best_pace = pace;
      best = drafts;
    }
    if (drafts == most) break;  // Wider rounds hold no more drafts.
  }
  return best;
}

}  // namespace ptgc
