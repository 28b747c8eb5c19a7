"""Rounding weights one after another while later weights compensate for the error."""

from __future__ import annotations

import numpy as np
import pytest

from ptgc.compiler.precision.quantization.float8 import Float8Grid, quantize_float8
from ptgc.compiler.precision.quantization.gptq import quantize_gptq
from ptgc.compiler.precision.quantization.number_grid import IntegerGrid
from ptgc.compiler.precision.quantization.rounding import quantize_blocks, quantize_channels
from tests.compiler.precision.quantization.matrices import correlated, lost, restored


@pytest.mark.parametrize(("bits", "block_size"), [(4, 32), (4, 128), (4, None), (8, 64), (8, None)])
def test_gptq_keeps_more_of_a_product_than_rounding_to_the_nearest(bits: int, block_size: int | None) -> None:
    inputs = correlated(256, 2048)
    matrix = np.random.default_rng(2).normal(size=(256, 24)).astype(np.float32)
    plain = quantize_channels(matrix, bits) if block_size is None else quantize_blocks(matrix, bits, block_size)
    grid = IntegerGrid(bits, positive=block_size is None)
    integers, scales = quantize_gptq(matrix, inputs.T @ inputs, grid, block_size or 256)
    assert integers.dtype == np.int8
    assert -(1 << bits - 1) <= integers.min()
    assert integers.max() < 1 << bits - 1
    assert block_size is not None or (scales > 0).all()
    assert lost(integers, scales, matrix, inputs) < 0.6 * lost(*plain, matrix, inputs)


def test_gptq_keeps_more_of_a_product_in_8_bit_floats_too() -> None:
    inputs = correlated(256, 2048)
    matrix = np.random.default_rng(2).normal(size=(256, 24)).astype(np.float32)
    numbers, scales = quantize_gptq(matrix, inputs.T @ inputs, Float8Grid(), 256)
    assert numbers.dtype == Float8Grid().dtype and np.isfinite(numbers.astype(np.float32)).all()
    assert lost(numbers, scales, matrix, inputs) < 0.6 * lost(*quantize_float8(matrix), matrix, inputs)


def test_inputs_that_are_always_zero_are_rounded_all_the_same() -> None:
    inputs = correlated(64, 512)
    inputs[:, :40] = 0
    matrix = np.random.default_rng(3).normal(size=(64, 8)).astype(np.float32)
    grid = IntegerGrid(4, positive=False)
    integers, scales = quantize_gptq(matrix, inputs.T @ inputs, grid, 32)
    assert np.abs(restored(integers, scales) - matrix).max() < 4 * np.abs(scales).max()
    integers, _ = quantize_gptq(np.zeros_like(matrix), np.zeros((64, 64), np.float32), grid, 32)
    assert not integers.any()
