"""Which positions of a canvas a round reads, and which are kept; the runtime has the same in canvas_slots.h."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptgc.spec.canvas import CanvasCache, CanvasPlan

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """What a round reads."""

    positions: Positions
    """The position of each row."""
    first_slot: int
    """The slot of the first one: so many are kept."""


class CanvasSlots:
    """The positions of a text by slot of the cache, those that are kept first.

    Args:
        plan: What is kept.
        length: Positions of the text.
    """

    def __init__(self, plan: CanvasPlan, length: int) -> None:
        self._plan = plan
        self._positions = np.arange(length)
        self._kept = 0

    def read(self, masked: NDArray[np.bool_], block: range, done: int, number: int) -> Rows:
        """What the next round reads; the part that is kept from then on comes first.

        Args:
            masked: Which positions of the text are masked.
            block: The positions that are filled.
            done: Rounds of this block.
            number: Rounds of the text.
        """
        cache = self._plan.cache
        if cache is CanvasCache.NONE:
            return Rows(self._positions, 0)
        if cache is CanvasCache.BLOCK:
            return Rows(self._positions[block.start : block.stop], block.start)
        is_due = number % self._plan.cache_interval == 0 if cache is CanvasCache.DELAYED else done == 0
        if is_due:
            self._positions, self._kept = np.arange(len(masked)), 0
        first, rest = self._kept, self._positions[self._kept :]
        keeps = self._keeps(masked, block)[rest]
        rest = np.concatenate([rest[keeps], rest[~keeps]])
        self._positions = np.concatenate([self._positions[:first], rest])
        self._kept += int(keeps.sum())
        return Rows(rest, first)

    def _keeps(self, masked: NDArray[np.bool_], block: range) -> NDArray[np.bool_]:
        """Which positions are kept; a row that predicts a masked position behind it is not."""
        at, shift = np.arange(len(masked)), self._plan.shift
        before: NDArray[np.bool_] = at < block.start - shift
        if self._plan.cache is CanvasCache.PREFIX:
            return before
        if self._plan.cache is CanvasCache.DUAL:
            return before | (at >= block.stop)
        return ~masked & ~(np.append(masked[1:], False) & shift)
