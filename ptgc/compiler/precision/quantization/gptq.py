"""GPTQ: rounds a matrix so that its products with the inputs it sees change least.

Source: Frantar et al., GPTQ (2023), algorithm 1. `H` is the second moment of the inputs. Rows of the matrix are rounded
one after the other, and the rows that follow compensate for the error of each. At the start of a block its scales are
searched, with every weight's error weighted as GPTQ weights it; without that, 4-bit blocks come out worse than with
plain rounding.
"""

from __future__ import annotations

import numpy as np

from ptgc.compiler.precision.quantization.number_grid import NumberGrid, in_half

_DAMPING = 0.01  # of the mean diagonal, as in the paper
_BATCH = 128  # rows whose errors are passed on together, as in the paper


def quantize_gptq(
    matrix: np.ndarray, moments: np.ndarray, grid: NumberGrid, block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Round a matrix to numbers and scales that preserve its products.

    Args:
        matrix: float32 `[in, out]`.
        moments: `[in, in]`: the sum of x xᵀ over inputs x.
        grid: The numbers to round to.
        block_size: Rows that share a scale; divides `in`.

    Returns:
        The grid's numbers `[out, in]`, and float32 scales `[out, in / block_size]`.
    """
    work = np.array(matrix, dtype=np.float32)
    rows, columns = work.shape
    upper = _inverse_factor(moments)
    numbers = np.empty(work.shape, grid.dtype)
    scales = np.empty((rows // block_size, columns), np.float32)
    step = min(block_size, _BATCH)
    for start in range(0, rows, step):
        if start % block_size == 0:
            weights = 1 / np.square(upper.diagonal()[start : start + block_size])
            scale = best_scales(work[start : start + block_size], weights, grid)
            scales[start // block_size] = scale
        batch = slice(start, min(start + step, rows))
        errors = _round_rows(work[batch], numbers[batch], scale, upper[batch, batch], grid)
        work[batch.stop :] -= upper[batch, batch.stop :].T @ errors
    return np.ascontiguousarray(numbers.T), np.ascontiguousarray(scales.T)


def best_scales(block: np.ndarray, weights: np.ndarray, grid: NumberGrid) -> np.ndarray:
    """The best scale for each column of `[block, out]`, among those that the grid proposes.

    Args:
        block: The weights to be rounded.
        weights: `[block]`, the weight of each row's squared error.
        grid: The numbers to round to.
    """
    widest = best = grid.scales(block)
    least = np.full(widest.shape, np.inf, np.float32)
    for factor in grid.shrinking:
        tried = in_half(widest * factor)
        error = weights @ np.square(grid.round(block / tried) * tried - block)
        best = np.where(error < least, tried, best)
        least = np.minimum(error, least)
    return best


def _inverse_factor(moments: np.ndarray) -> np.ndarray:
    """The upper triangular U with UᵀU = H⁻¹; for inputs that are always zero only the damping counts."""
    hessian = np.array(moments, dtype=np.float64)
    hessian[np.diag_indices_from(hessian)] += _DAMPING * (hessian.diagonal().mean() or 1.0)
    hessian = np.linalg.inv(hessian).astype(np.float64, copy=False)  # frees the old array: 1 GB each for wide layers
    factor: np.ndarray = np.linalg.cholesky(hessian).T.astype(np.float32)
    return factor


def _round_rows(
    work: np.ndarray, numbers: np.ndarray, scales: np.ndarray, upper: np.ndarray, grid: NumberGrid
) -> np.ndarray:
    """Round rows into `numbers`, destroying `work`; returns their errors over U's diagonal, for later rows."""
    errors = np.empty_like(work)
    for row in range(len(work)):
        rounded = grid.round(work[row] / scales)
        numbers[row] = rounded
        errors[row] = (work[row] - rounded * scales) / upper[row, row]
        work[row + 1 :] -= upper[row, row + 1 :, None] * errors[row]
    return errors
