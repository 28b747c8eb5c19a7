"""Rounding to 8-bit floating-point numbers, e4m3: 4 bits of exponent, 3 of fraction.

Source of the format: Micikevicius et al., FP8 Formats for Deep Learning (arXiv 2209.05433), section 3.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from ptgc.compiler.precision.quantization.number_grid import NumberGrid

LARGEST = 448.0
"""The largest e4m3 number."""
_LEAST_SCALE = np.float32(2.0**-14)
"""The smallest normal number of half precision, in which scales are stored. e4m3 keeps its precision down to 1/28672 of
its largest number, so channels of small weights lose nothing by this limit."""


class Float8Grid(NumberGrid):
    """e4m3 numbers."""

    @property
    def dtype(self) -> Any:
        """See NumberGrid."""
        return ml_dtypes.float8_e4m3fn

    def scales(self, block: np.ndarray) -> np.ndarray:
        """See NumberGrid."""
        found: np.ndarray = np.maximum(np.abs(block).max(axis=0) / np.float32(LARGEST), _LEAST_SCALE)
        return found

    def round(self, ratios: np.ndarray) -> np.ndarray:
        """See NumberGrid."""
        bounded = np.clip(ratios, -LARGEST, LARGEST)  # beyond it there is only NaN
        rounded: np.ndarray = bounded.astype(self.dtype).astype(np.float32)
        return rounded


def quantize_float8(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round to the nearest e4m3 numbers, with one positive scale for each output channel.

    Args:
        matrix: float32 `[in, out]`.

    Returns:
        float8_e4m3fn `[out, in]` and float32 scales `[out]`.
    """
    grid = Float8Grid()
    scales = grid.scales(matrix)
    return np.ascontiguousarray(grid.round(matrix / scales).astype(grid.dtype).T), scales
