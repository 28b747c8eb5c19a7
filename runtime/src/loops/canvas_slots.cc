#include "loops/canvas_slots.h"

#include <numeric>

namespace ptgc {

void CanvasSlots::Reserve(int max_length) {
  positions_.reserve(static_cast<std::size_t>(max_length));
  scratch_.reserve(static_cast<std::size_t>(max_length));
}

void CanvasSlots::Begin(int length) {
  positions_.resize(static_cast<std::size_t>(length));
  std::iota(positions_.begin(), positions_.end(), 0);
  kept_ = 0;
  fixed_ = 0;
}

}  // namespace ptgc
