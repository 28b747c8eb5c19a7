"""NumberGrid: the numbers that a scaled weight can become, and the scales that fit weights to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_HALF_LOSS = np.float32(2.0**-8)  # the most that a scale may change to fit half precision

_SHRINKING = tuple(np.linspace(0.7, 1.05, 15, dtype=np.float32))


def in_half(scales: np.ndarray) -> np.ndarray:
    """Scales that half precision holds exactly, float32; those that it has nothing near to (tiny ones) stay."""
    with np.errstate(over="ignore"):
        halves = scales.astype(np.float16).astype(np.float32)
    near: np.ndarray = np.abs(halves - scales) <= np.abs(scales) * _HALF_LOSS
    return np.where(near, halves, scales)


class NumberGrid(ABC):
    """The numbers that a quantiser rounds to; the quantiser decides which number a weight becomes."""

    @property
    @abstractmethod
    def dtype(self) -> Any:
        """The numpy type that holds the numbers."""

    @property
    def shrinking(self) -> Sequence[np.float32]:
        """Factors of the widest scale that are worth searching; empty if none are."""
        return ()

    @abstractmethod
    def scales(self, block: np.ndarray) -> np.ndarray:
        """The smallest scale for each column of `[block, out]` that clips no weight, but for rounding; never 0."""

    @abstractmethod
    def round(self, ratios: np.ndarray) -> np.ndarray:
        """The numbers nearest to `ratios` (weights over their scale), as float32."""


@dataclass(frozen=True)
class IntegerGrid(NumberGrid):
    """Integers around zero."""

    bits: int
    """4 or 8."""
    positive: bool
    """Whether scales must be positive, so that the largest weight becomes at most the largest integer. Otherwise it
    becomes the most negative integer, whose magnitude is greater by one, whatever its own sign."""

    @property
    def dtype(self) -> Any:
        """See NumberGrid."""
        return np.int8

    @property
    def shrinking(self) -> Sequence[np.float32]:
        """Only 4-bit blocks gain from clipping weights."""
        return _SHRINKING if self.bits <= 4 and not self.positive else ()

    def scales(self, block: np.ndarray) -> np.ndarray:
        """See NumberGrid."""
        if self.positive:
            found: np.ndarray = np.abs(block).max(axis=0) / np.float32(self._limit - 1)
        else:
            largest = np.take_along_axis(block, np.abs(block).argmax(axis=0)[None], axis=0)[0]
            found = largest / np.float32(-self._limit)
        found[found == 0] = 1
        return in_half(found)

    def round(self, ratios: np.ndarray) -> np.ndarray:
        """See NumberGrid."""
        rounded: np.ndarray = np.rint(ratios)
        return np.clip(rounded, -self._limit, self._limit - 1, out=rounded)

    @property
    def _limit(self) -> int:
        return 1 << (self.bits - 1)
