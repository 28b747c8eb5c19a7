// AcceptanceEstimate: how likely a row's next drafts are accepted.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "sampling/tree.h"

namespace ptgc {

// How often drafts whose parent was accepted were accepted, too, by their place in the tree, in the
// texts that `ptgc tune` wrote.
class AcceptanceRates {
 public:
  // Nothing was measured.
  AcceptanceRates() = default;
  // `gains` has the probability that each draft of a tree is accepted with all its ancestors. In a
  // chain for drafters with trees of their own, a draft stands for all of its depth.
  AcceptanceRates(const TreeSpec& tree, std::span<const double> gains);

  bool empty() const { return rates_.empty(); }
  // The rates of the first `num_children` children at this depth, likeliest first, or fewer if no
  // more were measured. What is deeper than all that was measured is taken for its last depth.
  std::span<const double> OfChildren(int depth, int num_children) const;

 private:
  std::vector<std::vector<double>> rates_;  // [depth - 1][rank]
};

// The probability that one of a node's children is accepted if the node is, by match length: the
// length of the text that the drafter found again. It begins with measured rates, or with assumed
// ones if there are none, and is learnt within one session. Old rounds fade, and estimates that are
// not tried return to those of the beginning, and slowly to the assumed ones, so that drafting is
// tried again later.
class AcceptanceEstimate {
 public:
  // Match lengths run from `shortest` to `longest`.
  AcceptanceEstimate(int shortest, int longest, AcceptanceRates measured = {});

  // The rate of a node with so many children at a depth.
  double Rate(int match_length, int depth = 1, int num_children = 1) const;
  // Writes the gain of every draft of a tree: the probability that it is accepted with all its
  // ancestors. Siblings share their parent's rate, as measured, or earlier ones get more of it.
  void WriteGains(const TreeSpec& tree, int match_length, std::span<double> gains) const;
  // Records a round that tried the children of the first `tried` nodes of the root and `path`, and
  // accepted those of the path.
  void Observe(const TreeSpec& tree, int match_length, int tried, std::span<const int> path);
  // Records a round in which this match length was offered but not tried.
  void Skip(int match_length);

 private:
  // Decayed counts for one range of match lengths.
  struct Bucket {
    double tried = 0;    // Draft tokens verified, up to the first rejected one.
    double surplus = 0;  // How many more of them were accepted than was expected at first.
    double trust = 1;    // Weight of measured rates; the rest is that of assumed ones.
  };
  static constexpr int kBuckets = 8;

  // The position of a match length between the shortest (0) and the longest (1).
  double Position(int match_length) const;
  std::size_t BucketOf(int match_length) const;
  double Assumed(int match_length) const;
  // What is expected before anything was tried.
  double Prior(int match_length, int depth, int num_children) const;
  // A child's part in its parent's rate.
  double Share(int depth, int rank, int num_children) const;

  int shortest_;                            // Match length of the first bucket.
  int longest_;                             // Match length of the last bucket.
  AcceptanceRates measured_;                // Of other texts.
  std::array<Bucket, kBuckets> buckets_{};  // Counts by match length.
};

}  // namespace ptgc
