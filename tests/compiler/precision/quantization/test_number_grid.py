"""The values that weights are rounded to."""

from __future__ import annotations

import numpy as np
import pytest

from ptgc.compiler.precision.quantization.float8 import Float8Grid
from ptgc.compiler.precision.quantization.number_grid import IntegerGrid, NumberGrid, in_half

GRIDS = [IntegerGrid(bits, positive=positive) for bits in (4, 8) for positive in (False, True)] + [Float8Grid()]
NAMES = ["int4", "int4-positive", "int8", "int8-positive", "float8"]


@pytest.mark.parametrize("grid", GRIDS, ids=NAMES)
def test_the_widest_scale_cuts_nothing_off_and_numbers_stay(grid: NumberGrid) -> None:
    block = np.random.default_rng(0).normal(size=(64, 30)).astype(np.float32)
    block[:, 3] = 0
    scales = grid.scales(block)
    assert (scales != 0).all()
    numbers = grid.round(block / scales)
    np.testing.assert_array_equal(grid.round(numbers.copy()), numbers)
    np.testing.assert_array_equal(numbers.astype(grid.dtype).astype(np.float32), numbers)
    largest = np.abs(block).max(axis=0)
    np.testing.assert_allclose(np.abs(numbers * scales).max(axis=0), largest, rtol=2.0**-11)


def test_signed_scales_use_the_most_negative_integer_and_positive_ones_do_not() -> None:
    block = np.array([[3.0, -3.0], [1.0, 1.0]], np.float32)
    signed, positive = IntegerGrid(4, positive=False), IntegerGrid(4, positive=True)
    np.testing.assert_array_equal(signed.round(block / signed.scales(block))[0], [-8, -8])
    np.testing.assert_array_equal(positive.round(block / positive.scales(block))[0], [7, -7])


@pytest.mark.parametrize("grid", GRIDS, ids=NAMES)
def test_what_is_too_large_becomes_the_largest(grid: NumberGrid) -> None:
    found = grid.round(np.array([-1e6, 1e6], np.float32))
    assert np.isfinite(found).all() and found[0] < 0 < found[1]


def test_scales_are_those_of_half_precision_unless_they_are_tiny_or_huge() -> None:
    found = in_half(np.array([0.1, -0.003, 3e-5, 1e-7, -1e-30, 1e6, 0], np.float32))
    np.testing.assert_array_equal(found[:3], found[:3].astype(np.float16))
    np.testing.assert_allclose(found[:3], [0.1, -0.003, 3e-5], rtol=2.0**-8)
    np.testing.assert_array_equal(found[3:], np.array([1e-7, -1e-30, 1e6, 0], np.float32))
