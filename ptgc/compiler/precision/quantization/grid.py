"""Recovers the grids of weights that were quantised before, such as those of dequantised checkpoints.

A block may be exactly `scale * integers`, the integers within the range of the bits. Rounding that puts the block's
largest weight on the most negative integer then loses precision, unless that weight was there before. Here the original
scale is found.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Relative to a weight. Checkpoints hold products of a scale and an integer that were rounded to float16, so they are up
# to 2^-11 off. A scale derived from such a product is off by as much again; together 2^-10 = 0.00098. If every weight
# of a block is this near to a grid by chance, the block loses less on that grid than by rounding to the nearest.
_TOLERANCE = 1e-3
_PROBE = 8  # weights of a block that are tested before all of them
_SAMPLE = 16  # columns, and blocks of each, that are sampled to see whether a matrix has grids at all
_CHUNK = 1 << 22  # weights that are processed together, which takes some 100 MB besides the matrix


def round_to_grids(
    matrix: np.ndarray, bits: int, block_size: int, *, positive: bool = False
) -> tuple[np.ndarray, np.ndarray] | None:
    """Lossless integers and scales of the blocks that lie on a grid.

    Args:
        matrix: float32 `[in, out]`.
        bits: 4 or 8.
        block_size: Rows that share a scale; divides `in`.
        positive: Whether scales must be positive; otherwise a block's largest weight may be the most negative integer.

    Returns:
        int8 `[out, in]` and float32 scales `[out, in / block_size]`, both 0 for blocks that lie on no grid; None if no
        block of a sample lies on one.
    """
    if not _has_grids(matrix, bits, block_size, positive=positive):
        return None
    rows, columns = matrix.shape
    integers = np.zeros((columns, rows), np.int8)
    scales = np.zeros((columns, rows // block_size), np.float32)
    for part in _parts(matrix):
        rounded, found = _take(_blocks(matrix[:, part], block_size), bits, positive=positive)
        integers[part] = rounded.reshape(-1, rows)
        scales[part] = found.reshape(-1, rows // block_size)
    return integers, scales


def _has_grids(matrix: np.ndarray, bits: int, block_size: int, *, positive: bool) -> bool:
    """Whether any block of a sample from the whole matrix lies on a grid."""
    rows, columns = matrix.shape
    which = np.unique(np.linspace(0, columns - 1, _SAMPLE).astype(int))
    starts = np.unique(np.linspace(0, rows // block_size - 1, _SAMPLE).astype(int)) * block_size
    sample = np.concatenate([_blocks(matrix[start : start + block_size, which], block_size) for start in starts])
    sample = sample[sample.any(axis=1)]  # zeros lie on every grid
    return bool(_take(sample, bits, positive=positive)[1].any())


def _take(blocks: np.ndarray, bits: int, *, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Integers and scales of the blocks `[blocks, size]` that lie on a grid, 0 for the others.

    Every integer is tried for a block's largest weight, from the largest down: a found integer is the true one or a
    multiple of it.
    """
    limit = 1 << (bits - 1)
    largest = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(axis=1)]
    integers = np.zeros(blocks.shape, np.int8)
    scales = np.where(largest == 0, np.float32(1), np.float32(0))
    left = np.flatnonzero(largest)
    probe = np.ascontiguousarray(blocks[:, :: max(1, blocks.shape[1] // _PROBE)])
    for integer in range(limit, 0, -1):
        tried = np.abs(largest[left]) / np.float32(integer)
        if integer == limit:  # only the negative end of the range has this magnitude
            tried = np.where(largest[left] > 0, -tried, tried)
        allowed = _rounded(probe[left], tried, limit)[1]
        if positive:
            allowed &= tried > 0
        candidates, tried = left[allowed], tried[allowed]
        of = blocks if len(candidates) == len(blocks) else blocks[candidates]
        rounded, fitting = _rounded(of, tried, limit)
        taken = candidates[fitting]
        integers[taken] = rounded[fitting]
        scales[taken] = _least_squares(of[fitting], rounded[fitting])
        left = left[scales[left] == 0]
    return integers, scales


def _rounded(blocks: np.ndarray, scales: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest integers to the weights over their block's scale, and whether all weights of a block match them."""
    ratio = blocks / scales[:, None]
    integers = np.rint(ratio)
    inside = integers.max(axis=1, initial=0) < limit
    distance = np.abs(integers - ratio)
    allowed = np.abs(ratio, out=ratio)
    allowed *= np.float32(_TOLERANCE)
    fitting: np.ndarray = inside & (distance <= allowed).all(axis=1)
    return integers, fitting


def _least_squares(blocks: np.ndarray, integers: np.ndarray) -> np.ndarray:
    """The least-squares scales of the blocks, in float64 so that exact weights give exact scales."""
    products = np.einsum("bs,bs->b", blocks, integers, dtype=np.float64)
    better: np.ndarray = (products / np.einsum("bs,bs->b", integers, integers, dtype=np.float64)).astype(np.float32)
    return better


def _blocks(matrix: np.ndarray, block_size: int) -> np.ndarray:
    """`[in, out]` rearranged to `[out * in / block_size, block_size]`."""
    return np.ascontiguousarray(matrix.T).reshape(-1, block_size)


def _parts(matrix: np.ndarray) -> Iterator[slice]:
    """Slices of the columns that are processed together."""
    rows, columns = matrix.shape
    step = max(1, _CHUNK // rows)
    for start in range(0, columns, step):
        yield slice(start, min(start + step, columns))
