"""GPTQ: rounding a matrix so that its products change least on the inputs that it sees.

Source: Frantar et al., GPTQ (2023), algorithm 1. `H` is the second moment of the inputs; rows of the matrix are rounded
one after the other, and what each loses is made up for by those behind it. Scales are searched where a block begins,
with every weight's error weighed as GPTQ weighs it: without that, blocks of 4 bits come out worse than plain rounding.
"""

from __future__ import annotations

import numpy as np

from ptgc.compiler.quantization.rounding import channel_scales

_DAMPING = 0.01  # of the mean diagonal, as in the paper
_BATCH = 128  # rows whose errors are passed on together, as in the paper
_SHRINKING = tuple(np.linspace(0.7, 1.05, 15, dtype=np.float32))  # of 4-bit scales


def quantize_gptq(
    matrix: np.ndarray, moments: np.ndarray, bits: int, block_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers and scales that keep a matrix's products.

    Args:
        matrix: float32 `[in, out]`.
        moments: `[in, in]`: the sum of x xᵀ over inputs x.
        bits: 4 or 8.
        block_size: Rows that share a scale; divides `in`. None: one positive scale for each output channel.

    Returns:
        int8 `[out, in]`, and float32 scales `[out, in / block_size]`, or `[out]`.
    """
    work = np.array(matrix, dtype=np.float32)
    rows, columns = work.shape
    upper = _inverse_factor(moments)
    block = block_size or rows
    integers = np.empty(work.shape, np.int8)
    scales = np.empty((rows // block, columns), np.float32)
    step = min(block, _BATCH)
    for start in range(0, rows, step):
        if start % block == 0:
            rest = work[start : start + block]
            weights = 1 / np.square(upper.diagonal()[start : start + block])
            scale = channel_scales(rest, bits) if block_size is None else _block_scales(rest, weights, bits)
            scales[start // block] = scale
        batch = slice(start, min(start + step, rows))
        errors = _round_rows(work[batch], integers[batch], scale, upper[batch, batch], bits)
        work[batch.stop :] -= upper[batch, batch.stop :].T @ errors
    return np.ascontiguousarray(integers.T), scales[0] if block_size is None else np.ascontiguousarray(scales.T)


def _inverse_factor(moments: np.ndarray) -> np.ndarray:
    """U with UᵀU = H⁻¹, upper triangular; damping alone stands for inputs that are always zero."""
    hessian = np.array(moments, dtype=np.float64)
    hessian += _DAMPING * (hessian.diagonal().mean() or 1.0) * np.eye(len(hessian))
    factor: np.ndarray = np.linalg.cholesky(np.linalg.inv(hessian)).T.astype(np.float32)
    return factor


def _block_scales(block: np.ndarray, weights: np.ndarray, bits: int) -> np.ndarray:
    """A scale for each column of `[block, out]`, the largest magnitude on the most negative integer or beyond it.

    Args:
        block: What is to be rounded.
        weights: What the square of a row's error counts.
        bits: 4 or 8.
    """
    largest = np.take_along_axis(block, np.abs(block).argmax(axis=0)[None], axis=0)[0]
    scales: np.ndarray = largest / np.float32(-(1 << (bits - 1)))
    scales[scales == 0] = 1
    if bits > 4:
        return scales
    best, least = scales, np.full(scales.shape, np.inf, np.float32)
    for factor in _SHRINKING:
        tried = scales * factor
        error = weights @ np.square(_round(block, tried, bits) * tried - block)
        best = np.where(error < least, tried, best)
        least = np.minimum(error, least)
    return best


def _round_rows(work: np.ndarray, integers: np.ndarray, scales: np.ndarray, upper: np.ndarray, bits: int) -> np.ndarray:
    """Rounds rows into `integers`, and spends `work`; gives their errors over U's diagonal, for the rows behind."""
    errors = np.empty_like(work)
    for row in range(len(work)):
        rounded = _round(work[row], scales, bits)
        integers[row] = rounded
        errors[row] = (work[row] - rounded * scales) / upper[row, row]
        work[row + 1 :] -= upper[row, row + 1 :, None] * errors[row]
    return errors


def _round(weights: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    rounded: np.ndarray = np.rint(weights / scales)
    limit = 1 << (bits - 1)
    return np.clip(rounded, -limit, limit - 1, out=rounded)
