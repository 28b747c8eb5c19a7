"""How many positions each round of a block must fill; the runtime has the same in canvas_schedule.cc."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, floor, pi

from ptgc.spec.canvas import CanvasPlan, Schedule


@dataclass(frozen=True)
class BlockRounds:
    """The rounds of one block."""

    length: int
    """Positions of a whole block."""
    masked: int
    """Masked positions before the first round."""
    rounds: int
    """Most rounds."""

    def fills(self, schedule: Schedule, done: int, left: int) -> int:
        """The fewest positions that the next round fills, at least one while any is masked.

        Args:
            schedule: The rule.
            done: Rounds done.
            left: Positions that are still masked.
        """
        if schedule is Schedule.COSINE:
            kept = floor(self.masked * cos(pi / 2 * (done + 1) / self.rounds))
            return min(left, max(left - kept, 1))
        if schedule is Schedule.PER_BLOCK:
            return min(left, self.length // self.rounds + (done < self.length % self.rounds))
        return -(-left // (self.rounds - done))


def rounds_of_block(plan: CanvasPlan, num_blocks: int) -> int:
    """The most rounds of a block of a text with this many blocks."""
    return plan.num_steps if plan.schedule is Schedule.PER_BLOCK else max(1, plan.num_steps // num_blocks)
