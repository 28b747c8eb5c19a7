// DraftProbabilities: the distributions that a row's drafts were sampled from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ptgc {

// q of speculative sampling (Leviathan et al., arXiv 2211.17192). Empty if the drafter is certain
// of its drafts, like the n-gram drafter.
struct DraftProbabilities {
  std::span<const float> values;  // [drafts, vocab_size]
  std::int64_t vocab_size = 0;    // The drafter's; may differ from the target's by unused entries.

  bool empty() const { return values.empty(); }
  // The distribution of draft number `draft` (from 0): [vocab_size].
  std::span<const float> Of(int draft) const {
    const auto size = static_cast<std::size_t>(vocab_size);
    return values.subspan(static_cast<std::size_t>(draft) * size, size);
  }
};

}  // namespace ptgc
