#include "drafters/draft_length.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace ptgc {
namespace {

constexpr double kPriorOfShortest = 0.5;
constexpr double kPriorOfLongest = 0.85;
constexpr double kPriorTokens = 2;     // Weight of the prior, in draft tokens.
constexpr double kLaterSibling = 0.3;  // Each sibling's share of the gain of the one before.
constexpr double kKeepTried = 0.9;     // Decay of the counts that a round adds to ...
constexpr double kKeepIdle = 0.97;     // ... and of those that it could have added to.

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

void AcceptanceEstimate::WriteGains(const TreeSpec& tree, int match_length,
                                    std::span<double> gains) const {
  const double rate = Rate(match_length);
  for (std::size_t i = 0; i < gains.size(); ++i) {
    const int node = static_cast<int>(i) + 1, parent = tree.parent(node);
    const double above = parent == 0 ? 1 : gains[static_cast<std::size_t>(parent) - 1];
    double share = 1;
    if (!tree.is_chain()) {
      share = (1 - kLaterSibling) * std::pow(kLaterSibling, tree.rank(node)) /
              (1 - std::pow(kLaterSibling, tree.num_children(parent)));
    }
    gains[i] = above * rate * share;
  }
}

void AcceptanceEstimate::Observe(int match_length, int tried, int accepted) {
  Bucket& bucket = buckets_[BucketOf(match_length)];
  bucket.tried = bucket.tried * kKeepTried + tried;
  bucket.kept = bucket.kept * kKeepTried + accepted;
}

void AcceptanceEstimate::Skip(int match_length) {
  Bucket& bucket = buckets_[BucketOf(match_length)];
  bucket.tried *= kKeepIdle;
  bucket.kept *= kKeepIdle;
}

double DraftLength::Gain(std::span<const DraftOffer> offers, int drafts) {
  double gain = 0;
  for (const DraftOffer& offer : offers) {
    if (drafts <= offer.tokens()) gain += offer.gains[static_cast<std::size_t>(drafts) - 1];
  }
  return gain;
}

int DraftLength::Rows(std::span<const DraftOffer> offers, int drafts) {
  int rows = 1;
  for (const DraftOffer& offer : offers) {
    rows = std::max(rows, offer.chunk + std::min(drafts, offer.tokens()));
  }
  return rows;
}

}  // namespace ptgc
