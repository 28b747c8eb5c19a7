"""Rounds a matrix to integers, each weight to the nearest; blocks that already lie on a grid keep it."""

from __future__ import annotations

import numpy as np

from ptgc.compiler.precision.quantization.grid import round_to_grids
from ptgc.compiler.precision.quantization.number_grid import IntegerGrid


def quantize_blocks(matrix: np.ndarray, bits: int, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers and scales in blocks of the input axis.

    Args:
        matrix: float32 `[in, out]`.
        bits: 4 or 8.
        block_size: Rows that share a scale; divides `in`.

    Returns:
        int8 `[out, in]` and float32 scales `[out, in / block_size]`.
    """
    integers, scales = _round_blocks(matrix, bits, block_size)
    keep_grids(matrix, integers, scales, bits, positive=False)
    return integers, scales


def _round_blocks(matrix: np.ndarray, bits: int, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = matrix.shape
    grid = IntegerGrid(bits, positive=False)
    integers = np.empty((columns, rows), np.int8)
    scales = np.empty((columns, rows // block_size), np.float32)
    for block in range(rows // block_size):
        part = slice(block * block_size, (block + 1) * block_size)
        scales[:, block] = grid.scales(matrix[part])
        integers[:, part] = grid.round(matrix[part] / scales[:, block]).T
    return integers, scales


def quantize_channels(matrix: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers with one positive scale for each output channel.

    Args:
        matrix: float32 `[in, out]`.
        bits: 4 or 8.

    Returns:
        int8 `[out, in]` and float32 scales `[out]`.
    """
    scales = IntegerGrid(bits, positive=True).scales(matrix)
    kept = round_to_grids(matrix, bits, len(matrix), positive=True)
    if kept is not None:
        np.copyto(scales, kept[1][:, 0], where=kept[1][:, 0] != 0)
    integers = np.rint(matrix / scales).astype(np.int8).T
    return np.ascontiguousarray(integers), scales


def keep_grids(matrix: np.ndarray, integers: np.ndarray, scales: np.ndarray, bits: int, *, positive: bool) -> None:
    """Overwrite the integers and scales of blocks that already lie on a grid with that grid.

    Args:
        matrix: float32 `[in, out]`.
        integers: `[out, in]`, changed in place.
        scales: `[out, in / block_size]`, changed in place.
        bits: 4 or 8.
        positive: Whether scales must be positive.
    """
    block_size = len(matrix) // scales.shape[1]
    kept = round_to_grids(matrix, bits, block_size, positive=positive)
    if kept is not None:
        on_grid = kept[1] != 0
        np.copyto(scales, kept[1], where=on_grid)
        np.copyto(integers, kept[0], where=np.repeat(on_grid, block_size, axis=1))


def take_from_grid(
    matrix: np.ndarray, bits: int, block_size: int, *, positive: bool = False
) -> tuple[np.ndarray, np.ndarray] | None:
    """Lossless integers and scales of a matrix whose blocks all lie on grids.

    Args:
        matrix: float32 `[in, out]`.
        bits: 4 or 8.
        block_size: Rows that share a scale; divides `in`.
        positive: Whether scales must be positive.

    Returns:
        int8 `[out, in]`, and float32 scales `[out, in / block_size]`; None if a block lies on no grid.
    """
    found = round_to_grids(matrix, bits, block_size, positive=positive)
    return None if found is None or not found[1].all() else found
