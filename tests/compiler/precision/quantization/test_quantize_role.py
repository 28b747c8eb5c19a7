"""Rounding the inputs of matrices: scales from a text, and which inputs stay unrounded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ptgc.compiler.backends.base import Preparation
from ptgc.compiler.backends.tensorrt import TENSORRT_RTX, TensorRTBackend
from ptgc.compiler.backends.tensorrt_network import Compiler, compile_graph
from ptgc.compiler.build.compiler_options import CompilerOptions
from ptgc.compiler.build.dimensions import Dimensions, Range
from ptgc.compiler.graph_session import GraphSession
from ptgc.compiler.precision.quantization.float8 import quantize_float8
from ptgc.errors import BuildError
from ptgc.exporters.roles.base import TracedRole
from ptgc.graphs.linear import linears
from ptgc.graphs.storage import save
from ptgc.spec import ports
from ptgc.spec.role import Role
from ptgc.spec.shapes import RoleShapes
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.ngram import ngram
from tests.compiler.prepared import CAPACITY, LINEAR_LAYERS, TEXT, canonical, normalized, role_of, traced
from tests.exporters.graph_run import trace_all
from tests.models import prompt
from tests.other_models import tiny_marian

SHAPES = RoleShapes((1, 2, 4, 8, 16, 32), 8, (CAPACITY,))
PRECISIONS = ("fp8", "w8a8")


def prepared(folder: Path, precision: str) -> tuple[Path, Role]:
    """The tiny llama, calibrated, for TensorRT."""
    save(traced("llama").model, folder, "source")
    task = Preparation(ngram(), SHAPES, precision, calibration=TEXT)
    made = TensorRTBackend(TENSORRT_RTX).prepare(ir.load(folder / "source.onnx"), role_of(traced("llama")), task)
    save(made.model, folder, "prepared")
    return folder / "prepared.onnx", made.role


def operators(path: Path) -> list[str]:
    return [node.op_type for node in ir.load(path).graph]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_calibrated_graph_is_standard_keeps_its_logits_and_is_the_same_on_two_runs(
    precision: str, tmp_path: Path
) -> None:
    path, role = prepared(tmp_path, precision)
    onnx.checker.check_model(str(path), full_check=True)
    assert operators(path).count("QuantizeLinear") == 12  # the head's input is not rounded
    assert operators(path).count("DequantizeLinear") == 12 + LINEAR_LAYERS
    (tmp_path / "again").mkdir()
    again, _ = prepared(tmp_path / "again", precision)
    for suffix in (".onnx", ".data"):
        assert again.with_suffix(suffix).read_bytes() == path.with_suffix(suffix).read_bytes()
    logits = GraphSession(path, role, CAPACITY, num_threads=1).prefill(prompt(24))
    original = canonical("llama", tmp_path).prefill(prompt(24))
    assert np.corrcoef(logits.ravel(), original.ravel())[0, 1] > 0.97


def test_e4m3_weights_compute_what_their_numbers_say(tmp_path: Path) -> None:
    family = "cohere"  # the family with the largest loss, with a tied head
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
    role = one.role(f"{name}.onnx")
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
    ranges = dict.fromkeys((ports.NUM_TOKENS, ports.MASK_SLOTS), Range(1, 8, 32)) | {ports.NUM_LOGITS: Range(1, 1, 8)}
    dimensions = Dimensions({ports.BATCH: 1, ports.KV_CAPACITY: CAPACITY}, ranges)
    targets = ("8.9", "12.0") if precision == "fp8" else ("8.6", "8.9", "12.0")
    compiler = Compiler(tensorrt_rtx, "tensorrt-rtx", CompilerOptions(targets), None)
    made = compile_graph(compiler, path, dimensions, "target", lambda step: None)
    assert made.layers["QUANTIZE"] == 12 and made.layers["ATTENTION_OUTPUT"] == 3 and not made.not_native
