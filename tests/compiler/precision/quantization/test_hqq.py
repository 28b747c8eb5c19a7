"""Half-quadratic scales."""

from __future__ import annotations

import numpy as np
import pytest

from ptgc.compiler.precision.quantization.float8 import Float8Grid
from ptgc.compiler.precision.quantization.hqq import quantize_hqq
from ptgc.compiler.precision.quantization.number_grid import IntegerGrid, NumberGrid
from ptgc.compiler.precision.quantization.rounding import quantize_blocks
from tests.compiler.precision.quantization.matrices import on_grid, restored


def heavy_tailed(rows: int, columns: int) -> np.ndarray:
    """Weights with a few large values."""
    return np.random.default_rng(4).standard_t(3, size=(rows, columns)).astype(np.float32)


def p_norm(matrix: np.ndarray, found: np.ndarray) -> float:
    """The objective that HQQ minimises."""
    return float(np.power(np.abs(found - matrix), 0.7).sum())


@pytest.mark.parametrize("block_size", [32, 64])
def test_the_p_norm_of_errors_is_less_than_by_rounding_to_the_nearest(block_size: int) -> None:
    matrix = heavy_tailed(256, 24)
    integers, scales = quantize_hqq(matrix, IntegerGrid(4, positive=False), block_size)
    assert integers.shape == (24, 256) and integers.min() >= -8 and integers.max() <= 7
    plain = restored(*quantize_blocks(matrix, 4, block_size))
    assert p_norm(matrix, restored(integers, scales)) < 0.98 * p_norm(matrix, plain)


@pytest.mark.parametrize("grid", [IntegerGrid(4, positive=False), IntegerGrid(8, positive=True), Float8Grid()])
def test_scales_are_never_zero_and_numbers_are_the_grids(grid: NumberGrid) -> None:
    matrix = heavy_tailed(64, 5)
    matrix[:, 2] = 0
    numbers, scales = quantize_hqq(matrix, grid, 64)
    assert numbers.dtype == grid.dtype and scales.shape == (5, 1)
    assert (scales != 0).all() and np.isfinite(restored(numbers, scales)).all()
    assert (restored(numbers, scales)[:, 2] == 0).all()


def test_chunks_of_columns_give_what_all_together_give(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = heavy_tailed(64, 9)
    together = quantize_hqq(matrix, IntegerGrid(4, positive=False), 32)
    monkeypatch.setattr("ptgc.compiler.precision.quantization.hqq._CHUNK", 128)
    for one, other in zip(together, quantize_hqq(matrix, IntegerGrid(4, positive=False), 32), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_on_a_grid_stay_there() -> None:
    matrix = on_grid(4, 32, largest=7)
    matrix[::32] *= np.float32(8 / 7)
    found = restored(*quantize_hqq(matrix, IntegerGrid(4, positive=False), 32))
    np.testing.assert_allclose(found[::32], matrix[::32], rtol=0.1)
