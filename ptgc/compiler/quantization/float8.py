"""Rounding to 8-bit floating-point numbers, e4m3: 4 bits of exponent, 3 of fraction.

Source of the format: Micikevicius et al., FP8 Formats for Deep Learning (arXiv 2209.05433), section 3.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

LARGEST = 448.0
"""The largest e4m3 number."""
_LEAST_SCALE = np.float32(2.0**-14)
"""The least normal number of half precision, which scales become. e4m3 keeps its precision down to a 28672th of its
largest number, so that channels of small weights lose nothing by it."""


def quantize_float8(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers to the nearest, with one positive scale for each output channel.

    Args:
        matrix: float32 `[in, out]`.

    Returns:
        float8_e4m3fn `[out, in]` and float32 scales `[out]`.
    """
    scales = np.maximum(np.abs(matrix).max(axis=0) / np.float32(LARGEST), _LEAST_SCALE)
    bounded = np.clip(matrix / scales, -LARGEST, LARGEST)  # beyond it there is only NaN
    return np.ascontiguousarray(bounded.astype(ml_dtypes.float8_e4m3fn).T), scales
