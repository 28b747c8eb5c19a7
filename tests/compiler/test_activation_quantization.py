"""Rounding what matrices are multiplied with: scales from a text, and what stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest

from ptgc.compiler.backends.base import Preparation
from ptgc.compiler.backends.tensorrt import TENSORRT_RTX, TensorRTBackend
from ptgc.compiler.backends.tensorrt_network import Compiler, compile_graph
from ptgc.compiler.compiler_options import CompilerOptions
from ptgc.compiler.dimensions import Dimensions, Range
from ptgc.compiler.graph_session import GraphSession
from ptgc.compiler.lowering.set_half_type import SetHalfTypePass
from ptgc.compiler.quantization.activation_ranges import activation_ranges
from ptgc.compiler.quantization.float8 import LARGEST, quantize_float8
from ptgc.compiler.quantization.quantize_inputs import QuantizeInputsPass
from ptgc.compiler.quantization.quantize_weights import QuantizeWeightsPass
from ptgc.compiler.quantization.rounding_losses import rounding_losses
from ptgc.compiler.quantization.second_moments import second_moments
from ptgc.compiler.quantization.smooth_inputs import SmoothInputsPass, smoothing_factors
from ptgc.compiler.quantization.weight_format import WeightFormat
from ptgc.errors import BuildError
from ptgc.exporters.roles import TracedRole
from ptgc.graphs.linear import linears
from ptgc.graphs.passes.normalize_linear import NormalizeLinearPass
from ptgc.graphs.storage import save, serialize
from ptgc.spec import ports
from ptgc.spec.manifest import Role
from ptgc.spec.plan import autoregressive, ngram
from ptgc.spec.shapes import ShapePlan
from tests.compiler.prepared import CAPACITY, canonical, role_of, traced
from tests.exporters.graph_run import trace_all
from tests.models import prompt
from tests.other_models import tiny_marian

TEXT = [prompt(40), prompt(17, 1)]
SHAPES = ShapePlan(1, 128, (1, 2, 4, 8, 16, 32), 8, (CAPACITY,))
LINEAR_LAYERS = 3 * 7 + 1  # of the tiny llama: three layers, and a head that is its embedding
PRECISIONS = ("fp8", "w8a8")


def normalized(family: str) -> ir.Model:
    """A tiny model as quantisation finds it."""
    model = traced(family).model.clone()
    NormalizeLinearPass()(model)
    common.ShapeInferencePass()(model)
    common.NameFixPass()(model)
    return model


def prepared(folder: Path, precision: str) -> tuple[Path, Role]:
    """The tiny llama, calibrated, for TensorRT."""
    save(traced("llama").model, folder, "source")
    task = Preparation(ngram(), SHAPES, precision, calibration=TEXT)
    made = TensorRTBackend(TENSORRT_RTX).prepare(ir.load(folder / "source.onnx"), role_of(traced("llama")), task)
    save(made.model, folder, "prepared")
    return folder / "prepared.onnx", made.role


def operators(path: Path) -> list[str]:
    return [node.op_type for node in ir.load(path).graph]


def test_e4m3_keeps_every_weight_to_a_sixteenth_and_channels_of_any_size() -> None:
    matrix = np.random.default_rng(2).normal(size=(64, 5)).astype(np.float32)
    matrix *= np.array([1, 1000, 0, 1e-4, 1e-7], np.float32)
    numbers, scales = quantize_float8(matrix)
    assert numbers.shape == (5, 64) and (scales.astype(np.float16) > 0).all()
    found = numbers.astype(np.float32)
    assert np.isfinite(found).all() and np.abs(found[:2]).max() == LARGEST
    lost = np.abs(found.T * scales - matrix)
    assert (lost <= np.abs(matrix) / 16 + scales * 2.0**-10).all()  # below 2^-6 steps are as wide as 2^-9


def test_ranges_are_the_largest_magnitudes_of_each_channel() -> None:
    model = normalized("llama")
    role = role_of(traced("llama"))
    before = serialize(model)
    ranges = [activation_ranges(model, role, [[token]]) for token in (5, 9)]
    assert serialize(model) == before
    assert set(ranges[0]) == {linear.input_name for linear in linears(model.graph)}
    for name, moments in second_moments(model, role, [[5]]).items():  # of one row: its products with itself
        np.testing.assert_allclose(np.square(ranges[0][name]), moments.diagonal(), rtol=1e-5)
    for name, one in activation_ranges(model, role, [[5], [9]]).items():
        np.testing.assert_allclose(one, np.maximum(ranges[0][name], ranges[1][name]), rtol=1e-5)
    assert activation_ranges(model, role, []) == {}


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_smoothing_changes_ranges_and_not_what_is_computed(family: str, tmp_path: Path) -> None:
    model, role = normalized(family), role_of(traced(family))
    ranges = activation_ranges(model, role, TEXT)
    factors = smoothing_factors(model.graph, ranges)
    assert 0 < len(factors) < len(ranges)
    smooth = SmoothInputsPass(factors)
    assert smooth(model).modified and not smooth(model).modified
    for name, one in activation_ranges(model, role, TEXT).items():
        expected = ranges[name] / factors.get(name, np.float32(1))
        np.testing.assert_allclose(one, expected, rtol=2e-3, atol=1e-5)
    save(model, tmp_path, "smoothed")
    session = GraphSession(tmp_path / "smoothed.onnx", role, CAPACITY, num_threads=1)
    np.testing.assert_allclose(
        session.prefill(prompt(24)), canonical(family, tmp_path).prefill(prompt(24)), atol=1e-3, rtol=1e-3
    )


def test_norms_and_gated_products_are_smoothed_and_what_others_read_is_not() -> None:
    model = normalized("llama")
    found = smoothing_factors(model.graph, activation_ranges(model, role_of(traced("llama")), TEXT))
    producers = {value.name: node.op_type for node in model.graph for value in node.outputs}
    assert (
        sorted(producers[name] for name in found) == ["Mul"] * 3 + ["RMSNormalization"] * 6
    )  # neither attention's result nor the head's input


def test_rows_beside_an_outlier_lose_most() -> None:
    model, role = normalized("llama"), role_of(traced("llama"))
    ranges = activation_ranges(model, role, TEXT)
    fine = {name: float(one.max()) / 127 for name, one in ranges.items()}
    coarse = {name: 100 * scale for name, scale in fine.items()}  # as if one number were a hundred times as large
    lost = rounding_losses(model, role, TEXT, fine, ir.DataType.INT8)
    assert set(lost) == set(fine)
    more = rounding_losses(model, role, TEXT, coarse, ir.DataType.INT8)
    floats = {name: scale * 127 / LARGEST for name, scale in coarse.items()}
    in_float8 = rounding_losses(model, role, TEXT, floats, ir.DataType.FLOAT8E4M3FN)
    for name, one in lost.items():
        assert 0 < one < 0.01 < 0.1 < more[name] <= 1.01
        assert 0 < in_float8[name] < 0.01  # steps are relative to each number


def test_an_input_is_rounded_once_for_all_layers_that_read_it() -> None:
    model = normalized("llama")
    scales = dict.fromkeys((linear.input_name for linear in linears(model.graph)), 0.1)
    QuantizeWeightsPass(WeightFormat(8, ()), {})(model)
    quantize = QuantizeInputsPass(scales, ir.DataType.INT8)
    assert quantize(model).modified and not quantize(model).modified
    nodes = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    assert len(nodes) == len(scales) < LINEAR_LAYERS
    assert sum(len(node.outputs[0].uses()) for node in nodes) == len(nodes)
    half = SetHalfTypePass(ir.DataType.FLOAT16)
    assert half(model).modified and not half(model).modified
    for node in nodes:
        assert {value.dtype for value in node.inputs if value is not None} == {ir.DataType.FLOAT16}
        assert node.outputs[0].dtype is ir.DataType.INT8


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_calibrated_graph_is_standard_keeps_its_logits_and_is_the_same_on_two_runs(
    precision: str, tmp_path: Path
) -> None:
    path, role = prepared(tmp_path, precision)
    onnx.checker.check_model(str(path), full_check=True)
    assert operators(path).count("QuantizeLinear") == 12  # the head reads what it read before
    assert operators(path).count("DequantizeLinear") == 12 + LINEAR_LAYERS
    (tmp_path / "again").mkdir()
    again, _ = prepared(tmp_path / "again", precision)
    for suffix in (".onnx", ".data"):
        assert again.with_suffix(suffix).read_bytes() == path.with_suffix(suffix).read_bytes()
    logits = GraphSession(path, role, CAPACITY, num_threads=1).prefill(prompt(24))
    original = canonical("llama", tmp_path).prefill(prompt(24))
    assert np.corrcoef(logits.ravel(), original.ravel())[0, 1] > 0.97


def test_e4m3_weights_compute_what_their_numbers_say(tmp_path: Path) -> None:
    family = "cohere"  # loses most of all families, with a head that is its embedding
    rounded = normalized(family)
    for linear in linears(rounded.graph):
        matrix = linear.weight.const_value
        assert matrix is not None
        turned = matrix.numpy().T if linear.transposed else matrix.numpy()
        numbers, scales = quantize_float8(turned)
        found = numbers.astype(np.float32) * scales[:, None]
        linear.weight.const_value = ir.tensor(found if linear.transposed else found.T.copy(), name=matrix.name)
    save(rounded, tmp_path, "rounded")
    save(traced(family).model, tmp_path, "source")
    role, task = role_of(traced(family)), Preparation(ngram(), SHAPES, "fp8")
    made = TensorRTBackend(TENSORRT_RTX).prepare(ir.load(tmp_path / "source.onnx"), role, task)
    save(made.model, tmp_path, "prepared")
    # What reads the same rows is one product: three a layer, of which attention reads what its MLP reads, and the head.
    assert operators(tmp_path / "prepared.onnx").count("DequantizeLinear") == 3 * len(role.states) + 1
    expected = GraphSession(tmp_path / "rounded.onnx", role, CAPACITY, num_threads=1).prefill(prompt(24))
    logits = GraphSession(tmp_path / "prepared.onnx", made.role, CAPACITY, num_threads=1).prefill(prompt(24))
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.999


def test_int8_activations_need_a_text() -> None:
    task = Preparation(ngram(), SHAPES, "w8a8")
    with pytest.raises(BuildError, match="there is no text") as caught:
        TensorRTBackend(TENSORRT_RTX).prepare(traced("llama").model.clone(), role_of(traced("llama")), task)
    assert "--calibration" in caught.value.action


ENCODER_DECODER: Callable[[], dict[str, TracedRole]] = cache(
    lambda: trace_all({"target": tiny_marian(), "encoder": tiny_marian()}, autoregressive())
)


@pytest.mark.parametrize("name", ["target", "encoder"])
def test_roles_that_read_no_text_alone_have_int8_weights_alone(name: str, tmp_path: Path) -> None:
    one = ENCODER_DECODER()[name]
    save(one.model, tmp_path, name)
    role = Role(f"{name}.onnx", one.inputs, one.outputs, one.states, one.cross_states)
    for precision in ("w8a8", "int8"):
        task = Preparation(autoregressive(), SHAPES, precision)
        made = TensorRTBackend(TENSORRT_RTX).prepare(ir.load(tmp_path / f"{name}.onnx"), role, task)
        save(made.model, tmp_path, precision)
    assert "QuantizeLinear" not in operators(tmp_path / "w8a8.onnx")
    assert (tmp_path / "w8a8.data").read_bytes() == (tmp_path / "int8.data").read_bytes()


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", PRECISIONS)
def test_rounded_inputs_compile(precision: str, tmp_path: Path) -> None:
    import tensorrt_rtx

    path, _ = prepared(tmp_path, precision)
    ranges = {ports.NUM_TOKENS: Range(1, 8, 32), ports.NUM_LOGITS: Range(1, 1, 8)}
    dimensions = Dimensions({ports.BATCH: 1, ports.KV_CAPACITY: CAPACITY}, ranges)
    targets = ("8.9", "12.0") if precision == "fp8" else ("8.6", "8.9", "12.0")
    compiler = Compiler(tensorrt_rtx, "tensorrt-rtx", CompilerOptions(targets), None)
    made = compile_graph(compiler, path, dimensions, "target", lambda step: None)
    assert made.layers["QUANTIZE"] == 12 and made.layers["ATTENTION_OUTPUT"] == 3 and not made.not_native
