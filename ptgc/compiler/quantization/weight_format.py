"""WeightFormat: how the weights of a role are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class WeightFormat:
    """How the weights of a role are stored."""

    bits: int
    """4 or 8."""
    block_sizes: tuple[int, ...]
    """Weights that share a scale, in order of preference; the first that divides a matrix is taken. None: one scale
    for all weights of an output channel."""

    @property
    def per_channel(self) -> bool:
        """Whether a scale serves a whole output channel."""
        return not self.block_sizes

    @property
    def dtype(self) -> Any:
        """Numpy's type of the integers."""
        return ml_dtypes.int4 if self.bits == 4 else np.int8

    def block_size(self, in_features: int) -> int | None:
        """The block for a matrix of that many rows, or None where none divides it."""
        if self.per_channel:
            return in_features
        return next((size for size in self.block_sizes if in_features % size == 0), None)
