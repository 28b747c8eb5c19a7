"""Weights that lie on a grid already, as those of a checkpoint that was quantised once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ptgc.compiler.quantization.quantize_weights import QuantizeWeightsPass
from ptgc.compiler.quantization.rounding import quantize_blocks, quantize_channels, take_from_grid
from ptgc.compiler.quantization.weight_format import WeightFormat
from ptgc.graphs.linear import linears
from tests.compiler.prepared import prepared_model


def on_grid(bits: int, group: int, *, rows: int = 256, columns: int = 40, largest: int | None = None) -> np.ndarray:
    """A matrix `[in, out]` of integers times scales that half precision has, one for each group of inputs."""
    generator = np.random.default_rng(bits + group)
    largest = (1 << (bits - 1)) - 1 if largest is None else largest
    integers = generator.integers(-largest, largest + 1, size=(rows // group, group, columns))
    integers[:, 0] = largest
    scales = generator.uniform(0.002, 0.02, size=(rows // group, 1, columns)).astype(np.float16)
    matrix: np.ndarray = (integers * scales.astype(np.float32)).reshape(rows, columns)
    return matrix.astype(np.float32)


def restored(integers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    blocks: np.ndarray = integers.reshape(*scales.shape, -1) * scales[..., None]
    return blocks.reshape(integers.shape).T


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


@pytest.mark.parametrize("weight_format", [WeightFormat(4, (32,)), WeightFormat(8, ())])
def test_calibration_leaves_matrices_on_a_grid_as_they_are(weight_format: WeightFormat, tmp_path: Path) -> None:
    model, _ = prepared_model("llama", tmp_path)
    group = 32 if weight_format.bits == 4 else None
    wanted = {}
    moments = {}
    for index, linear in enumerate(linears(model.graph)):
        assert linear.weight.const_value is not None
        shape = linear.weight.const_value.shape.numpy()
        rows, columns = reversed(shape) if linear.transposed else shape
        matrix = on_grid(weight_format.bits, group or rows, rows=rows, columns=columns)
        given = np.ascontiguousarray(matrix.T) if linear.transposed else matrix
        linear.weight.const_value = ir.tensor(given, name=linear.weight.name)
        wanted[str(linear.weight.name)] = matrix
        inputs = np.random.default_rng(index).normal(size=(3 * rows, rows)).astype(np.float32)
        moments[linear.input_name] = inputs.T @ inputs
    QuantizeWeightsPass(weight_format, moments)(model)
    values = {name: value.const_value.numpy() for name, value in model.graph.initializers.items() if value.const_value}
    for name, matrix in wanted.items():
        integers, scales = values[f"{name}.quantized"].astype(np.float32), values[f"{name}.scales"]
        found = restored(integers, scales if scales.ndim == 2 else scales[:, None])
        np.testing.assert_allclose(found, matrix, rtol=1e-5, atol=1e-7, err_msg=name)
