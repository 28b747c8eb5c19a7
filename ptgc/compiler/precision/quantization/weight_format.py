"""WeightFormat: how the weights of a role are stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np


class Numbers(Enum):
    """What a quantised number is."""

    INTEGER = "integer"
    """A signed integer."""
    FLOAT = "float"
    """A floating-point number: of 8 bits, 4 for its exponent and 3 for its fraction (e4m3, largest 448)."""


@dataclass(frozen=True)
class WeightFormat:
    """How the weights of a role are stored."""

    bits: int
    """4 or 8; 8 for floating-point numbers."""
    block_sizes: tuple[int, ...]
    """Weights that share a scale, in order of preference; the first that divides a matrix is taken. None: one scale
    for all weights of an output channel. Floating-point numbers have no blocks."""
    numbers: Numbers = Numbers.INTEGER
    """What they are."""

    @property
    def per_channel(self) -> bool:
        """Whether a scale serves a whole output channel."""
        return not self.block_sizes

    @property
    def dtype(self) -> Any:
        """Numpy's type of the numbers."""
        if self.numbers is Numbers.FLOAT:
            return ml_dtypes.float8_e4m3fn
        return ml_dtypes.int4 if self.bits == 4 else np.int8

    def block_size(self, in_features: int) -> int | None:
        """The block for a matrix of that many rows, or None where none divides it."""
        if self.per_channel:
            return in_features
        return next((size for size in self.block_sizes if in_features % size == 0), None)
