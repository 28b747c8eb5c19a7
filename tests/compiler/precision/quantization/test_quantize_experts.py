"""Experts as standard DequantizeLinear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest

from ptgc.compiler.backends.base import Preparation
from ptgc.compiler.backends.tensorrt import TENSORRT_RTX, TensorRTBackend
from ptgc.compiler.backends.tensorrt_network import Compiler, compile_graph
from ptgc.compiler.build.compiler_options import CompilerOptions
from ptgc.compiler.build.dimensions import Dimensions, Range
from ptgc.compiler.graph_session import GraphSession
from ptgc.compiler.precision.quantization.quantize_experts import QuantizeExpertsPass
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.compiler.precision.quantization.round_experts import round_experts
from ptgc.compiler.precision.quantization.weight_format import Numbers, WeightFormat
from ptgc.graphs.experts import stacks
from ptgc.graphs.storage import save
from ptgc.spec import ports
from ptgc.spec.role import Role
from ptgc.spec.shapes import RoleShapes
from ptgc.spec.strategies.ngram import ngram
from tests.compiler.precision.quantization.matrices import restored
from tests.compiler.prepared import CAPACITY, TEXT, canonical, normalized, role_of, traced
from tests.models import prompt

SHAPES = RoleShapes((1, 2, 4, 8, 16, 32), 8, (CAPACITY,))
FORMATS = {
    "int8": WeightFormat(8, ()),
    "int4": WeightFormat(4, (32,)),
    "fp8": WeightFormat(8, (), Numbers.FLOAT),
}


def prepared_mixture(folder: Path, precision: str) -> tuple[Path, Role]:
    """The tiny mixtral, calibrated, for TensorRT."""
    save(traced("mixtral").model, folder, "source")
    task = Preparation(ngram(), SHAPES, precision, calibration=TEXT)
    made = TensorRTBackend(TENSORRT_RTX).prepare(ir.load(folder / "source.onnx"), role_of(traced("mixtral")), task)
    save(made.model, folder, "prepared")
    return folder / "prepared.onnx", made.role


@pytest.mark.parametrize("precision", FORMATS)
def test_experts_compute_what_their_numbers_say(precision: str, tmp_path: Path) -> None:
    model, role = normalized("mixtral"), role_of(traced("mixtral"))
    rounded = round_experts(model, role, [], FORMATS[precision], Quantizer.RTN)
    expected = {}
    for stack in stacks(model.graph):
        expected[stack.value.name] = np.stack([restored(*one) for one in rounded[stack.value]])
    quantize = QuantizeExpertsPass(rounded)
    assert quantize(model).modified and not quantize(model).modified
    assert not stacks(model.graph)
    common.NameFixPass()(model)
    save(model, tmp_path, "quantized")
    session = GraphSession(tmp_path / "quantized.onnx", role, CAPACITY, num_threads=1)
    again = normalized("mixtral")
    for stack in stacks(again.graph):
        array = expected[stack.value.name]
        array = np.ascontiguousarray(array.swapaxes(1, 2) if stack.transposed else array)
        stack.value.const_value = ir.tensor(array, name=stack.value.name)
    save(again, tmp_path, "restored")
    other = GraphSession(tmp_path / "restored.onnx", role, CAPACITY, num_threads=1)
    np.testing.assert_allclose(session.prefill(prompt(24)), other.prefill(prompt(24)), atol=1e-4)


@pytest.mark.parametrize("precision", ["int8", "int4", "fp8", "w8a8"])
def test_a_mixture_for_tensorrt_is_standard_and_has_no_experts_in_floats(precision: str, tmp_path: Path) -> None:
    path, role = prepared_mixture(tmp_path, precision)
    onnx.checker.check_model(str(path), full_check=True)
    assert not stacks(ir.load(path).graph)
    (tmp_path / "again").mkdir()
    again, _ = prepared_mixture(tmp_path / "again", precision)
    assert again.with_suffix(".data").read_bytes() == path.with_suffix(".data").read_bytes()
    logits = GraphSession(path, role, CAPACITY, num_threads=1).prefill(prompt(24))
    original = canonical("mixtral", tmp_path).prefill(prompt(24))
    assert np.corrcoef(logits.ravel(), original.ravel())[0, 1] > (0.8 if precision == "int4" else 0.95)


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", ["int8", "int4", "fp8", "w8a8"])
def test_quantised_experts_compile(precision: str, tmp_path: Path) -> None:
    import tensorrt_rtx

    path, _ = prepared_mixture(tmp_path, precision)
    ranges = dict.fromkeys((ports.NUM_TOKENS, ports.MASK_SLOTS), Range(1, 8, 32)) | {ports.NUM_LOGITS: Range(1, 1, 8)}
    dimensions = Dimensions({ports.BATCH: 1, ports.KV_CAPACITY: CAPACITY}, ranges)
    targets = ("8.9", "12.0") if precision == "fp8" else ("8.6", "8.9", "12.0")
    compiler = Compiler(tensorrt_rtx, "tensorrt-rtx", CompilerOptions(targets), None)
    made = compile_graph(compiler, path, dimensions, "target", lambda step: None)
    assert made.layers["ATTENTION_OUTPUT"] == 2 and not made.not_native
