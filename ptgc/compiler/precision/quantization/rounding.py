"""Rounds a matrix to integers, each weight to the nearest; blocks that already lie on a grid keep it.

Source of the block arithmetic: onnxruntime's own block quantiser (symmetric, the largest magnitude of a block becomes
the most negative integer).
"""

from __future__ import annotations

from typing import Any

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
    from onnxruntime.capi import _pybind_state

    kernels: Any = _pybind_state  # compiled, without stubs

    rows, columns = matrix.shape
    blocks = rows // block_size
    packed = np.zeros((columns, blocks, block_size * bits // 8), np.uint8)
    scales = np.zeros(columns * blocks, np.float32)
    zero_points = np.zeros((columns, (blocks * bits + 7) // 8), np.uint8)
    kernel = kernels.quantize_matmul_4bits if bits == 4 else kernels.quantize_matmul_8bits
    kernel(packed, np.ascontiguousarray(matrix), scales, zero_points, block_size, columns, rows, True)
    if bits == 4:
        integers = np.stack([packed & 15, packed >> 4], axis=-1).reshape(columns, rows).astype(np.int8) - 8
    else:
        integers = (packed.reshape(columns, rows) ^ np.uint8(0x80)).view(np.int8)
    return integers, scales.reshape(columns, blocks)


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
