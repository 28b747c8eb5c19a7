// How many positions of a block each round must fill; ptgc.graphs.canvas.schedule has the same.
#pragma once

#include "base/names.h"

namespace ptgc {

// The rounds of one block.
struct BlockRounds {
  int length = 1;  // Positions of a whole block.
  int masked = 0;  // Masked positions before the first round.
  int rounds = 1;  // Most rounds.
  int done = 0;    // Rounds done.
};

// The fewest positions that the next round fills if `left` are masked: at least one of them.
int FillsOf(Schedule schedule, const BlockRounds& block, int left);

// The most rounds of a block of a text with this many blocks.
int RoundsOfBlock(Schedule schedule, int num_steps, int num_blocks);

}  // namespace ptgc
