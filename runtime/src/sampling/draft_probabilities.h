// DraftProbabilities: the distributions that a row's drafts were drawn from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ptgc {

// q of speculative sampling (Leviathan et al., arXiv 2211.17192). Children of a node that were
// drawn from one distribution, without replacement, share it:
//
//          root            indices of the nodes 0, 1, 2, 3, 4:  -1  0  0  1  -1
//        /  |   \          .
//       1   2    4         1, 2 are drawn from distribution 0, 3 from distribution 1.
//       |                  4 is certain: its drafter proposes it whatever the randomness.
//       3
struct DraftProbabilities {
  static constexpr int kCertain = -1;

  std::span<const float> values;  // [distributions, vocab_size]
  std::span<const int> indices;   // Distribution of each node, or kCertain; of the root nothing.
                                  // Later nodes are certain.
  std::int64_t vocab_size = 0;    // The drafter's; may differ from the target's by unused entries.

  // What the draft of a node was drawn from, [vocab_size]; empty if it is certain.
  std::span<const float> Of(int node) const {
    const auto at = static_cast<std::size_t>(node);
    if (at >= indices.size() || indices[at] == kCertain) return {};
    const auto size = static_cast<std::size_t>(vocab_size);
    return values.subspan(static_cast<std::size_t>(indices[at]) * size, size);
  }
};

}  // namespace ptgc
