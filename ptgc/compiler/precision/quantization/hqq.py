"""HQQ: scales that keep most rounding errors small and allow a few large ones. It needs no text.

Source: Badri and Shaji, Half-Quadratic Quantization of Large Machine Learning Models (2023), section "Half-Quadratic
Solver": minimise φ(W - s Q(W / s)), φ the sum of |x|^p with p < 1, alternating between an auxiliary error W_e and the
scale. The paper keeps the scale and moves the zero point. Our formats have no zero point, so here the scale moves: with
numbers Q fixed, the least-squares problem W - W_e = s Q has one solution. onnxruntime's HQQ is not used: it needs
PyTorch, and gives floating-point zero points, which neither TensorRT's DequantizeLinear nor GatherBlockQuantized
supports.
"""

from __future__ import annotations

import numpy as np

from ptgc.compiler.precision.quantization.number_grid import NumberGrid, in_half

_P = 0.7  # p, β, κ and the number of iterations are the paper's
_BETA = 10.0
_KAPPA = 1.01
_TURNS = 20
_CHUNK = 1 << 22  # weights that are processed together, which takes some 100 MB


def quantize_hqq(matrix: np.ndarray, grid: NumberGrid, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Round to the nearest, with scales that minimise the p-norm of the errors.

    Args:
        matrix: float32 `[in, out]`.
        grid: The numbers to round to.
        block_size: Rows that share a scale; divides `in`.

    Returns:
        The grid's numbers `[out, in]`, and float32 scales `[out, in / block_size]`.
    """
    rows, columns = matrix.shape
    numbers = np.empty((columns, rows), grid.dtype)
    scales = np.empty((columns, rows // block_size), np.float32)
    step = max(1, _CHUNK // rows)
    for start in range(0, columns, step):
        part = slice(start, min(start + step, columns))
        blocks = np.ascontiguousarray(matrix[:, part].T).reshape(-1, block_size).T  # [block, columns * blocks]
        blocks = np.ascontiguousarray(blocks)
        found = _half_quadratic_scales(blocks, grid)
        numbers[part] = grid.round(blocks / found).T.reshape(-1, rows)
        scales[part] = found.reshape(-1, rows // block_size)
    return numbers, scales


def _half_quadratic_scales(blocks: np.ndarray, grid: NumberGrid) -> np.ndarray:
    """The scale of each column of `[block, columns]` with the least loss in any iteration.

    Errors are measured in units of the widest scale, because the shrinkage below depends on the magnitude of the
    numbers, and the weights of one model have all magnitudes.
    """
    unit = best = scales = grid.scales(blocks)
    least = np.full(unit.shape, np.inf, np.float32)
    beta = _BETA
    for _ in range(_TURNS):
        numbers = grid.round(blocks / scales)
        errors = (blocks - scales * numbers) / unit
        sizes = np.abs(errors)
        lost = np.power(sizes, np.float32(_P)).sum(axis=0)
        best = np.where(lost < least, scales, best)
        least = np.minimum(lost, least)
        # W_e = sign(x) max(|x| - |x|^(p-1) / β, 0), the generalised soft threshold.
        with np.errstate(divide="ignore"):
            kept = np.maximum(sizes - np.power(sizes, np.float32(_P - 1)) / np.float32(beta), 0)
        wanted = blocks - np.copysign(kept, errors) * unit
        energy = np.square(numbers).sum(axis=0)
        moved = (wanted * numbers).sum(axis=0) / np.where(energy == 0, 1, energy)
        scales = np.where(moved * unit > 0, in_half(moved), scales)  # a scale keeps its sign, and is never 0
        beta *= _KAPPA
    return best
