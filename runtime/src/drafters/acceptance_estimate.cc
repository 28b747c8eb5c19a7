#include "drafters/acceptance_estimate.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace ptgc {
namespace {

constexpr double kAssumedOfShortest = 0.5;
constexpr double kAssumedOfLongest = 0.85;
constexpr double kPriorTokens = 2;     // Weight of the prior, in draft tokens.
constexpr double kLaterSibling = 0.3;  // Each sibling's share of the gain of the one before.
constexpr double kKeepTried = 0.9;     // Decay of the counts that a round adds to ...
constexpr double kKeepIdle = 0.97;     // ... and of those that it could have added to.
constexpr double kKeepTrust = 0.99;    // Decay of the trust in what was measured, meanwhile.

double Odds(double rate) { return rate / (1 - rate); }

double Sum(std::span<const double> rates) {
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

}  // namespace

AcceptanceRates::AcceptanceRates(const TreeSpec& tree, std::span<const double> gains) {
  rates_.resize(gains.empty() ? 0 : static_cast<std::size_t>(tree.height()));
  for (int node = 1; node < tree.num_nodes() && node <= static_cast<int>(gains.size()); ++node) {
    const int parent = tree.parent(node);
    const double above = parent == 0 ? 1 : gains[static_cast<std::size_t>(parent) - 1];
    const double rate = above > 0 ? gains[static_cast<std::size_t>(node) - 1] / above : 0;
    std::vector<double>& ranks = rates_[static_cast<std::size_t>(tree.depth(node)) - 1];
    const auto rank = static_cast<std::size_t>(tree.rank(node));
    if (rank >= ranks.size()) ranks.resize(rank + 1);
    ranks[rank] = std::min(rate, 1.0);
  }
}

std::span<const double> AcceptanceRates::OfChildren(int depth, int num_children) const {
  const std::size_t at = std::min(static_cast<std::size_t>(depth), rates_.size()) - 1;
  const std::size_t known = std::min(static_cast<std::size_t>(num_children), rates_[at].size());
  return std::span(rates_[at]).first(known);
}

AcceptanceEstimate::AcceptanceEstimate(int shortest, int longest, AcceptanceRates measured)
    : shortest_(shortest), longest_(longest), measured_(std::move(measured)) {}

double AcceptanceEstimate::Position(int match_length) const {
  if (longest_ <= shortest_) return 1;
  const double position = static_cast<double>(match_length - shortest_) / (longest_ - shortest_);
  return std::clamp(position, 0.0, 1.0);
}

std::size_t AcceptanceEstimate::BucketOf(int match_length) const {
  return static_cast<std::size_t>(Position(match_length) * (kBuckets - 1));
}

double AcceptanceEstimate::Assumed(int match_length) const {
  return std::lerp(kAssumedOfShortest, kAssumedOfLongest, Position(match_length));
}

// Rates are measured over all match lengths, of which short ones are the most frequent. Longer ones
// are more reliable: their odds are higher by as much as is assumed where nothing was measured.
double AcceptanceEstimate::Prior(int match_length, int depth, int num_children) const {
  const double assumed = Assumed(match_length);
  if (measured_.empty()) return assumed;
  double measured = std::min(Sum(measured_.OfChildren(depth, num_children)), 1.0);
  if (longest_ > shortest_) {
    const double scaled = measured * Odds(assumed) / Odds(kAssumedOfShortest);
    measured = scaled / (scaled + 1 - measured);
  }
  return std::lerp(assumed, measured, buckets_[BucketOf(match_length)].trust);
}

double AcceptanceEstimate::Share(int depth, int rank, int num_children) const {
  if (!measured_.empty()) {
    const std::span<const double> known = measured_.OfChildren(depth, num_children);
    const double all = Sum(known);
    if (all > 0 && static_cast<int>(known.size()) == num_children) {
      return known[static_cast<std::size_t>(rank)] / all;
    }
  }
  return (1 - kLaterSibling) * std::pow(kLaterSibling, rank) /
         (1 - std::pow(kLaterSibling, num_children));
}

double AcceptanceEstimate::Rate(int match_length, int depth, int num_children) const {
  const Bucket& bucket = buckets_[BucketOf(match_length)];
  const double learnt = bucket.surplus / (bucket.tried + kPriorTokens);
  return std::clamp(Prior(match_length, depth, num_children) + learnt, 0.0, 1.0);
}

void AcceptanceEstimate::WriteGains(const TreeSpec& tree, int match_length,
                                    std::span<double> gains) const {
  for (std::size_t i = 0; i < gains.size(); ++i) {
    const int node = static_cast<int>(i) + 1, parent = tree.parent(node), depth = tree.depth(node);
    const double above = parent == 0 ? 1 : gains[static_cast<std::size_t>(parent) - 1];
    const int num_children = tree.is_chain() ? 1 : tree.num_children(parent);
    const double share = num_children == 1 ? 1 : Share(depth, tree.rank(node), num_children);
    gains[i] = above * Rate(match_length, depth, num_children) * share;
  }
}

void AcceptanceEstimate::Observe(const TreeSpec& tree, int match_length, int tried,
                                 std::span<const int> path) {
  double expected = 0;
  for (int depth = 1; depth <= tried; ++depth) {
    const int node = depth == 1 ? 0 : path[static_cast<std::size_t>(depth) - 2];
    expected += Prior(match_length, depth, tree.num_children(node));
  }
  Bucket& bucket = buckets_[BucketOf(match_length)];
  bucket.tried = bucket.tried * kKeepTried + tried;
  bucket.surplus = bucket.surplus * kKeepTried + static_cast<double>(path.size()) - expected;
}

void AcceptanceEstimate::Skip(int match_length) {
  Bucket& bucket = buckets_[BucketOf(match_length)];
  bucket.tried *= kKeepIdle;
  bucket.surplus *= kKeepIdle;
  bucket.trust *= kKeepTrust;
}

}  // namespace ptgc
