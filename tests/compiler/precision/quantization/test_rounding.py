"""Rounding to the nearest, and weights that are already on a grid, as in a quantised checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

from ptgc.compiler.precision.quantization.rounding import quantize_blocks, quantize_channels, take_from_grid
from tests.compiler.precision.quantization.matrices import on_grid, restored


@pytest.mark.parametrize(("bits", "group"), [(4, 128), (4, 32), (8, 64), (8, 256)])
@pytest.mark.parametrize("type_", [np.float32, np.float16])
def test_blocks_on_a_grid_are_kept(bits: int, group: int, type_: type) -> None:
    matrix = on_grid(bits, group).astype(type_).astype(np.float32)
    block = 32 if bits == 4 else 64
    found = restored(*quantize_blocks(matrix, bits, block))
    atol = 1e-7 if type_ is np.float32 else 0
    np.testing.assert_allclose(found, matrix, rtol=1e-6 if type_ is np.float32 else 1e-3, atol=atol)
    fresh = matrix * np.random.default_rng(0).uniform(0.9, 1.1, size=matrix.shape).astype(np.float32)
    assert np.abs(restored(*quantize_blocks(fresh, bits, block)) - fresh).max() > 0.3 * np.abs(matrix).max() / (
        1 << bits
    )


def test_a_grid_of_four_bits_is_one_of_eight() -> None:
    matrix = on_grid(4, 128)
    np.testing.assert_allclose(restored(*quantize_blocks(matrix, 8, 64)), matrix, rtol=1e-6)


@pytest.mark.parametrize("sign", [-1, 1])
def test_either_sign_may_reach_the_end_of_the_range_but_not_both(sign: int) -> None:
    matrix = sign * on_grid(4, 32, largest=7)
    step = np.abs(matrix[:32]).max(axis=0) / 7
    matrix[5] = -sign * 8 * step
    integers, scales = quantize_blocks(matrix, 4, 32)
    np.testing.assert_allclose(restored(integers, scales)[:32], matrix[:32], rtol=1e-6, atol=1e-8)
    assert integers.min() >= -8 and integers.max() <= 7
    matrix[6] = -matrix[5]
    integers, scales = quantize_blocks(matrix, 4, 32)
    assert integers.min() >= -8 and integers.max() <= 7
    assert np.abs(restored(integers, scales) - matrix).max() <= 1.001 * step.max()


def test_blocks_off_a_grid_are_rounded_as_ever() -> None:
    random = np.random.default_rng(1).normal(size=(256, 40)).astype(np.float32)
    alone = quantize_blocks(random, 4, 32)
    mixed = np.concatenate([on_grid(4, 32), random], axis=1)
    integers, scales = quantize_blocks(mixed, 4, 32)
    np.testing.assert_array_equal(integers[40:], alone[0])
    np.testing.assert_array_equal(scales[40:], alone[1])
    np.testing.assert_allclose(restored(integers, scales)[:, :40], mixed[:, :40], rtol=1e-6, atol=1e-8)
    assert take_from_grid(mixed, 4, 32) is None
    assert take_from_grid(random, 4, 32) is None


def test_blocks_of_zeros_lie_on_every_grid() -> None:
    matrix = on_grid(4, 32)
    matrix[:64, :7] = 0
    found = take_from_grid(matrix, 4, 32)
    assert found is not None
    np.testing.assert_allclose(restored(*found), matrix, rtol=1e-6, atol=1e-8)
    assert np.isfinite(restored(*quantize_blocks(np.zeros((64, 3), np.float32), 4, 32))).all()


def test_channels_on_a_grid_are_kept_with_positive_scales() -> None:
    matrix = on_grid(8, 256, largest=100)
    matrix[3] = -128 / 100 * np.abs(matrix).max(axis=0)  # the end of the range, on no grid for most
    matrix[3, :20] = on_grid(8, 256, largest=100)[3, :20]
    integers, scales = quantize_channels(matrix, 8)
    assert (scales > 0).all()
    np.testing.assert_allclose((integers * scales[:, None]).T[:, :20], matrix[:, :20], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_hold_their_weights_within_half_a_step(bits: int) -> None:
    matrix = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    integers, scales = quantize_blocks(matrix, bits, 32)
    restored = integers.reshape(5, 2, 32) * scales.reshape(5, 2, 1)
    error = np.abs(restored - matrix.T.reshape(5, 2, 32))
    # the positive end of the range is one step short of the negative one
    assert (error <= np.abs(scales.reshape(5, 2, 1)) * 1.001).all()
    assert (np.median(error) <= np.abs(scales).max() / 2).all()
