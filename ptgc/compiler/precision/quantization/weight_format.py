"""WeightFormat: how the weights of a role are stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np


class Numbers(Enum):
    """The kind of a quantised number."""

    INTEGER = "integer"
    """A signed integer."""
    FLOAT = "float"
    """An 8-bit floating-point number with 4 bits of exponent and 3 of fraction (e4m3, largest 448)."""


@dataclass(frozen=True)
class WeightFormat:
    """How the weights of a role are stored."""

    bits: int
    """4 or 8; 8 for floating-point numbers."""
    block_sizes: tuple[int, ...]
    """Numbers of weights that share a scale, in order of preference; the first that divides a matrix is taken. Empty:
    one scale for each output channel. Floating-point numbers have no blocks."""
    numbers: Numbers = Numbers.INTEGER
    """The kind of the numbers."""

    @property
    def per_channel(self) -> bool:
        """Whether each output channel has a single scale."""
        return not self.block_sizes

    @property
    def dtype(self) -> Any:
        """Numpy's type of the numbers."""
        if self.numbers is Numbers.FLOAT:
            return ml_dtypes.float8_e4m3fn
        return ml_dtypes.int4 if self.bits == 4 else np.int8

    def block_size(self, in_features: int) -> int | None:
        """The block size for a matrix of that many rows; None if none divides it."""
        if self.per_channel:
            return in_features
        return next((size for size in self.block_sizes if in_features % size == 0), None)
