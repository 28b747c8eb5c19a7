// CanvasSlots: which slots of a cache hold the positions of a text that is being filled.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace ptgc {

// A cache that approximates keeps the keys and values of some positions while others change. Rows
// of a round are written to consecutive slots, and padding behind them, so that slots are not in
// the order of positions: those that are kept come first, and a round reads all behind them.
//
//              kept before      read by this round
//     slots    0 ...        kept()              length
//              | 0 1 2 7 8  | 3 4    | 5 6 9 |          positions
//                             kept     read again by
//                             from now next round
//                             on
class CanvasSlots {
 public:
  void Reserve(int max_length);
  // Keeps nothing of a text of this length, so that the next round reads all of it.
  void Begin(int length);
  // Orders what the next round reads: first the positions for which `keeps(position)` is true,
  // whose keys and values later rounds use. Both parts ascend if nothing was kept before.
  template <typename Keeps>
  void Order(const Keeps& keeps) {
    scratch_.assign(positions_.begin() + kept_, positions_.end());
    auto next = positions_.begin() + kept_;
    for (const int position : scratch_) {
      if (keeps(position)) *next++ = position;
    }
    fixed_ = static_cast<int>(next - positions_.begin());
    for (const int position : scratch_) {
      if (!keeps(position)) *next++ = position;
    }
  }
  // The round has been run.
  void Keep() { kept_ = fixed_; }

  // Slots that hold kept positions: the slot of the first row.
  int kept() const { return kept_; }
  // The positions that the round reads, by row ...
  std::span<const int> rows() const {
    return std::span(positions_).subspan(static_cast<std::size_t>(kept_));
  }
  // ... and the row from which on nothing is kept.
  int first_changing() const { return fixed_ - kept_; }

 private:
  std::vector<int> positions_;  // By slot.
  std::vector<int> scratch_;    // What is ordered.
  int kept_ = 0;                // Slots that are kept.
  int fixed_ = 0;               // Slots that will be when the round has been run.
};

}  // namespace ptgc
