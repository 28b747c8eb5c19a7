"""Graphs prepared for ONNX Runtime's CUDA provider, checked in ONNX Runtime on the CPU; no GPU is needed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import onnxruntime
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.backends import BACKENDS
from ptgc.compiler.backends.base import Preparation
from ptgc.compiler.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend
from ptgc.compiler.graph_session import GraphSession
from ptgc.compiler.lowering.move_sizes_to_device import MoveSizesToDevicePass
from ptgc.compiler.lowering.widen_choices import WidenChoicesPass
from ptgc.errors import BuildError
from ptgc.graphs.piece import Piece
from ptgc.graphs.storage import save
from ptgc.spec.role import Role
from ptgc.spec.shapes import RoleShapes
from ptgc.spec.strategies.ngram import ngram
from tests.bundles import tiny_bundle
from tests.compiler.prepared import CAPACITY, canonical, role_of, traced
from tests.models import FAMILIES, prompt

ON_HOST = {"Shape", "Size"}


def run(*arguments: object) -> Result:
    result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code != 3, result.output
    return result


def on_cuda(family: str, folder: Path, precision: str, parts: dict[str, str] | None = None) -> tuple[ir.Model, Role]:
    save(traced(family).model, folder, "canonical")
    model = ir.load(folder / "canonical.onnx")
    shapes = RoleShapes((1, 2, 4, 8, 16, 32), 16, (CAPACITY,))
    made = OnnxRuntimeCudaBackend().prepare(
        model, role_of(traced(family)), Preparation(ngram(), shapes, precision, parts or {})
    )
    return made.model, replace(made.role, graph="cuda.onnx")


def session(family: str, folder: Path, precision: str, parts: dict[str, str] | None = None) -> GraphSession:
    model, role = on_cuda(family, folder, precision, parts)
    save(model, folder, "cuda")
    return GraphSession(folder / "cuda.onnx", role, CAPACITY, num_threads=1)


def written(one: GraphSession) -> np.ndarray:
    return np.concatenate([one.prefill(prompt(24)), one.forward(prompt(7, 1)), one.forward(prompt(1, 2))])


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_graphs_compute_what_the_canonical_graph_computes(family: str, tmp_path: Path) -> None:
    expected, found = written(canonical(family, tmp_path)), written(session(family, tmp_path, "float32"))
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("precision", "parts", "least"),
    [("float16", {}, 0.9999), ("int8", {}, 0.99), ("int4", {}, 0.8), ("int4", {"head": "int8"}, 0.8)],
)
def test_smaller_precisions_stay_close(precision: str, parts: dict[str, str], least: float, tmp_path: Path) -> None:
    expected, found = written(canonical("llama", tmp_path)), written(session("llama", tmp_path, precision, parts))
    assert float(np.corrcoef(found.ravel(), expected.ravel())[0, 1]) > least


def test_integers_are_block_products_over_half_precision(tmp_path: Path) -> None:
    model, role = on_cuda("llama", tmp_path, "int4")
    products = [node for node in model.graph if node.op_type == "MatMulNBits"]
    assert len(products) == 3 * 4 + 1 and {state.dtype.value for state in role.states} == {"float16"}
    assert {node.inputs[2].dtype for node in products if node.inputs[2] is not None} == {ir.DataType.FLOAT16}
    assert "GroupQueryAttention" not in {node.op_type for node in model.graph}


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_no_kernel_of_the_device_reads_a_size_from_the_host(family: str, tmp_path: Path) -> None:
    model, _ = on_cuda(family, tmp_path, "float16")
    assert not MoveSizesToDevicePass()(model).modified
    for node in model.graph:
        if node.op_type in ("Less", "Min", "Max", "Equal"):
            producers = {value.producer() for value in node.inputs if value is not None}
            assert ON_HOST.isdisjoint(one.op_type for one in producers if one is not None)


def test_a_size_in_a_sum_is_moved_once_and_keeps_its_rank() -> None:
    rows = ir.val("rows", ir.DataType.INT64, ir.Shape(["batch", "num_tokens"]))
    piece = Piece("sizes")
    op, constant = piece.op, piece.constant
    number = op("Gather", op("Shape", rows), constant(1))
    part = op("Shape", rows, start=1, end=2)
    total = op("Add", op("Add", rows, number), op("Sub", number, constant(1)))
    total = op("Mul", total, part)
    total.name, total.dtype, total.shape = "total", ir.DataType.INT64, rows.shape
    graph = ir.Graph([rows], [total], nodes=piece.nodes, opset_imports={"": 24})
    model = ir.Model(graph, ir_version=10)
    common.ShapeInferencePass()(model)
    assert MoveSizesToDevicePass()(model).modified and not MoveSizesToDevicePass()(model).modified
    assert sum(node.op_type == "Range" for node in graph) == 3
    common.NameFixPass()(model)
    loaded = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    values = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(loaded.run(None, {"rows": values})[0], (values + 3 + 2) * 3)


def test_choices_of_bfloat16_read_float32() -> None:
    numbers = ir.val("numbers", ir.DataType.BFLOAT16, ir.Shape([2, 8]))
    piece = Piece("choice")
    best = piece.op("ArgMax", numbers, axis=-1)
    top, ids = piece.op_outputs("TopK", numbers, piece.constant([2]), outputs=2)
    for value, name, dtype in (
        (best, "best", ir.DataType.INT64),
        (top, "top", ir.DataType.BFLOAT16),
        (ids, "ids", ir.DataType.INT64),
    ):
        value.name, value.dtype = name, dtype
    graph = ir.Graph([numbers], [best, top, ids], nodes=piece.nodes, opset_imports={"": 24})
    model = ir.Model(graph, ir_version=10)
    assert WidenChoicesPass()(model).modified and not WidenChoicesPass()(model).modified
    read = {node.inputs[0].dtype for node in graph if node.op_type in ("ArgMax", "TopK") and node.inputs[0] is not None}
    assert read == {ir.DataType.FLOAT}
    assert [value.name for value in graph.outputs] == ["best", "top", "ids"]
    assert graph.outputs[1].dtype is ir.DataType.BFLOAT16


def test_each_device_has_a_backend_of_its_own() -> None:
    backend = BACKENDS.create("onnxruntime")
    assert backend.on("cpu") is backend
    assert backend.on("cuda").precisions[0] == "float16" and backend.on("cuda").name == "onnxruntime"
    with pytest.raises(BuildError, match="makes no builds for device 'npu'"):
        backend.on("npu")


def test_a_build_for_cuda_is_made_and_checked_without_a_gpu(place: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle(place, "llama"), bundle, ignore=shutil.ignore_patterns("builds"))
    made = run("build", bundle, "--device", "cuda", "--max-length", "128", "--json")
    assert made.exit_code == 0, made.output
    name = json.loads(made.stdout)["build"]
    assert name == "onnxruntime-cuda-float16-l128"
    checked = run("check", bundle, "--json")
    assert checked.exit_code == 0, checked.output
    stages = [stage["stage"] for stage in json.loads(checked.stdout)["stages"]]
    assert any(name in stage and "prepared graph" in stage for stage in stages)
    refused = run("run", bundle, "--prompt-ids", "1,2", "--device", "cuda", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["error"]["code"] == "backend"
