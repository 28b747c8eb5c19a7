"""Graphs in half precision, and the other passes that only TensorRT needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import onnxruntime
import pytest

from ptgc.compiler.lowering.add_attention_mask import AddAttentionMaskPass
from ptgc.compiler.lowering.fix_dimensions import FixDimensionsPass, dimension_names
from ptgc.compiler.lowering.name_nodes import NameNodesPass
from ptgc.compiler.lowering.set_half_type import SetHalfTypePass
from ptgc.compiler.lowering.write_out_attention import WriteOutAttentionPass
from ptgc.compiler.precision.quantization.rounding import quantize_channels
from ptgc.graphs.piece import Piece
from ptgc.graphs.storage import save
from tests.compiler.prepared import traced

WIDTH = 8


def normed_product(dtype: ir.DataType) -> ir.Model:
    """A norm as PyTorch writes it out, scaled by a policy parameter, its sum with the input, and a matrix product."""
    hidden = ir.val("hidden", ir.DataType.FLOAT, ir.Shape([1, 2, WIDTH]))
    threshold = ir.val("threshold", ir.DataType.FLOAT, ir.Shape([1]))
    weight = ir.tensor(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32), name="weight")
    matrix = ir.val("weight", ir.DataType.FLOAT, ir.Shape([WIDTH, WIDTH]), const_value=weight)
    piece = Piece("norm")
    op, constant = piece.op, piece.constant
    mean = op("ReduceMean", op("Pow", hidden, constant(2.0, ir.DataType.FLOAT)), constant([-1]))
    normed = op("Div", hidden, op("Sqrt", op("Add", mean, constant(1e-6, ir.DataType.FLOAT))))
    stream = op("Add", hidden, op("Mul", normed, threshold))
    product = op("MatMul", stream, matrix)
    least = op(
        "Where", op("Less", product, constant(0.0, ir.DataType.FLOAT)), constant(-3e38, ir.DataType.FLOAT), product
    )
    confidence = op("ReduceMean", op("Cast", least, to=ir.DataType.FLOAT), constant([-1]), keepdims=0)
    for value, name, shape in ((least, "logits", [1, 2, WIDTH]), (confidence, "confidence", [1, 2])):
        value.name, value.dtype, value.shape = name, ir.DataType.FLOAT, ir.Shape(shape)
    graph = ir.Graph(
        [hidden, threshold], [least, confidence], nodes=piece.nodes, initializers=[matrix], opset_imports={"": 24}
    )
    model = ir.Model(graph, ir_version=10)
    SetHalfTypePass(dtype)(model)
    return model


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.BFLOAT16])
def test_a_norm_and_the_stream_that_it_enters_stay_float32_up_to_the_matrix_product(dtype: ir.DataType) -> None:
    graph = normed_product(dtype).graph
    types = {node.op_type: node.outputs[0].dtype for node in graph if node.op_type not in ("Cast", "Constant")}
    kept = ("Pow", "ReduceMean", "Sqrt", "Div", "Mul")
    assert {types[name] for name in kept} == {ir.DataType.FLOAT}
    product = next(node for node in graph if node.op_type == "MatMul")
    assert {value.dtype for value in product.inputs if value is not None} == {dtype}
    ports = {value.name: value.dtype for value in (*graph.inputs, *graph.outputs)}
    assert ports["hidden"] is ports["logits"] is dtype
    assert ports["threshold"] is ports["confidence"] is ir.DataType.FLOAT
    assert set(graph.initializers) >= {"weight.half"} and "weight" not in graph.initializers


def test_nothing_overflows_in_float16_that_did_not_in_float32(tmp_path: Path) -> None:
    save(normed_product(ir.DataType.FLOAT16), tmp_path, "half")
    session = onnxruntime.InferenceSession(str(tmp_path / "half.onnx"), providers=["CPUExecutionProvider"])
    hidden = np.full((1, 2, WIDTH), 4000, np.float16)  # its square overflows float16
    found = session.run(None, {"hidden": hidden, "threshold": np.ones(1, np.float32)})
    assert all(np.isfinite(np.asarray(array)).all() for array in found)


def test_random_numbers_stay_float32() -> None:
    numbers = ir.val("uniforms", ir.DataType.FLOAT, ir.Shape([1, 4, 2]))
    hidden = ir.val("hidden", ir.DataType.FLOAT, ir.Shape([1, 4, 2]))
    piece = Piece("draw")
    drawn = piece.op("Greater", hidden, numbers)
    drawn.name, drawn.dtype, drawn.shape = "drawn", ir.DataType.BOOL, ir.Shape([1, 4, 2])
    model = ir.Model(ir.Graph([hidden, numbers], [drawn], nodes=piece.nodes, opset_imports={"": 24}), ir_version=10)
    SetHalfTypePass(ir.DataType.FLOAT16)(model)
    assert (hidden.dtype, numbers.dtype) == (ir.DataType.FLOAT16, ir.DataType.FLOAT)
    reader = next(node for node in model.graph if node.op_type == "Greater")
    assert all(value is not None and value.dtype is ir.DataType.FLOAT for value in reader.inputs)


def test_named_dimensions_become_numbers_and_the_others_stay() -> None:
    model = traced("llama").model.clone()
    assert dimension_names(model.graph) == ["batch", "num_tokens", "mask_slots", "num_logits", "kv_capacity"]
    FixDimensionsPass({"batch": 1, "kv_capacity": 96})(model)
    assert dimension_names(model.graph) == ["num_tokens", "mask_slots", "num_logits"]
    (cache,) = (value for value in model.graph.inputs if value.name == "past_key_values.0.key")
    assert cache.shape is not None and list(cache.shape) == [1, 2, 96, 16]


def test_a_channel_holds_its_weights_within_half_a_step() -> None:
    matrix = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    matrix[:, 2] = 0
    integers, scales = quantize_channels(matrix, 8)
    assert integers.shape == (5, 64) and (scales > 0).all() and np.abs(integers).max() == 127
    assert (np.abs(integers.T * scales - matrix) <= scales / 2 * 1.001).all()


@pytest.mark.parametrize(
    "lowering",
    [
        SetHalfTypePass(ir.DataType.FLOAT16),
        AddAttentionMaskPass(ir.DataType.FLOAT16),
        WriteOutAttentionPass(lambda node: "for the test"),
        FixDimensionsPass({"batch": 1}),
        NameNodesPass(),
    ],
    ids=lambda lowering: type(lowering).__name__,
)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_pass_run_twice_changes_nothing(lowering: ir.passes.InPlacePass, family: str) -> None:
    model = traced(family).model.clone()
    common.ShapeInferencePass()(model)
    assert lowering(model).modified
    assert not lowering(model).modified
