#include "loops/canvas_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ptgc {

int FillsOf(Schedule schedule, const BlockRounds& block, int left) {
  switch (schedule) {
    case Schedule::kLinear: {
      const int remaining = std::max(block.rounds - block.done, 1);
      return (left + remaining - 1) / remaining;
    }
    case Schedule::kCosine: {
      const double share = std::cos(std::numbers::pi / 2 * (block.done + 1) / block.rounds);
      return std::min(left, std::max(left - static_cast<int>(std::floor(block.masked * share)), 1));
    }
    case Schedule::kPerBlock: {
      const int more = block.done < block.length % block.rounds ? 1 : 0;
      return std::min(left, block.length / block.rounds + more);
    }
  }
  return left;
}

int RoundsOfBlock(Schedule schedule, int num_steps, int num_blocks) {
  if (schedule == Schedule::kPerBlock) return num_steps;
  return std::max(1, num_steps / std::max(num_blocks, 1));
}

}  // namespace ptgc
