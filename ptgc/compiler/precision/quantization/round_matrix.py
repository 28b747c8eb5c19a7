"""Rounds one matrix to a format with a quantiser."""

from __future__ import annotations

import numpy as np

from ptgc.compiler.precision.quantization.float8 import Float8Grid, quantize_float8
from ptgc.compiler.precision.quantization.gptq import quantize_gptq
from ptgc.compiler.precision.quantization.hqq import quantize_hqq
from ptgc.compiler.precision.quantization.number_grid import IntegerGrid, NumberGrid
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.compiler.precision.quantization.rounding import keep_grids, quantize_blocks, quantize_channels, take_from_grid
from ptgc.compiler.precision.quantization.weight_format import Numbers, WeightFormat

_LEAST_SCALE = np.float32(2.0**-24)  # the smallest positive number in half precision, in which scales must not become 0

Rounded = tuple[np.ndarray, np.ndarray]
"""Numbers `[out, in]`, and float32 scales `[out, in / block_size]`, or `[out]` if a channel has one scale."""


def round_matrix(
    matrix: np.ndarray,
    wanted: WeightFormat,
    block_size: int,
    quantizer: Quantizer,
    moments: np.ndarray | None = None,
) -> Rounded:
    """Round a matrix.

    Args:
        matrix: float32 `[in, out]`.
        wanted: The format to round to.
        block_size: Rows that share a scale: all, or one of the format's sizes that divides them.
        quantizer: How to round. GPTQ needs moments; without them each weight is rounded to the nearest.
        moments: `[in, in]`, second moments of its inputs.
    """
    if moments is not None and quantizer.makes_up:
        numbers, scales = _on_grid(matrix, wanted, block_size) or quantize_gptq(
            matrix, moments, grid_of(wanted), block_size
        )
    elif quantizer is Quantizer.HQQ:
        numbers, scales = quantize_hqq(matrix, grid_of(wanted), block_size)
        if wanted.numbers is Numbers.INTEGER:
            keep_grids(matrix, numbers, scales, wanted.bits, positive=wanted.per_channel)
    else:
        numbers, scales = _round_to_nearest(matrix, wanted, block_size)
    if wanted.per_channel:
        scales = np.maximum(scales.reshape(-1), _LEAST_SCALE)
    return numbers.astype(wanted.dtype), scales


def grid_of(wanted: WeightFormat) -> NumberGrid:
    """The numbers of a format."""
    if wanted.numbers is Numbers.FLOAT:
        return Float8Grid()
    return IntegerGrid(wanted.bits, positive=wanted.per_channel)


def _on_grid(matrix: np.ndarray, wanted: WeightFormat, block_size: int) -> Rounded | None:
    """The matrix without loss, if it lies on grids and there are no errors to compensate; else None."""
    if wanted.numbers is Numbers.FLOAT:
        return None
    return take_from_grid(matrix, wanted.bits, block_size, positive=wanted.per_channel)


def _round_to_nearest(matrix: np.ndarray, wanted: WeightFormat, block_size: int) -> Rounded:
    if wanted.numbers is Numbers.FLOAT:
        return quantize_float8(matrix)
    if wanted.per_channel:
        return quantize_channels(matrix, wanted.bits)
    return quantize_blocks(matrix, wanted.bits, block_size)
