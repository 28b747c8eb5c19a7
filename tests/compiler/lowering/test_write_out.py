"""Decompositions of newer operators compute the same as ONNX Runtime's own operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import onnxruntime
import pytest

from ptgc.compiler.lowering.lower_opset import LowerOpsetPass
from ptgc.compiler.lowering.stack_query_groups import StackQueryGroupsPass
from ptgc.compiler.lowering.write_out_attention import WriteOutAttentionPass, portable_reason
from ptgc.compiler.lowering.write_out_rms_normalization import WriteOutRMSNormalizationPass
from ptgc.compiler.lowering.write_out_rotary_embedding import WriteOutRotaryEmbeddingPass
from ptgc.compiler.lowering.write_out_tensor_scatter import WriteOutTensorScatterPass
from ptgc.errors import BuildError
from ptgc.graphs.piece import MODULE_KEY

RANDOM = np.random.default_rng(5)
PASSES: dict[str, Callable[[], ir.passes.InPlacePass]] = {
    "Attention": lambda: WriteOutAttentionPass(portable_reason),
    "RotaryEmbedding": WriteOutRotaryEmbeddingPass,
    "RMSNormalization": WriteOutRMSNormalizationPass,
    "TensorScatter": WriteOutTensorScatterPass,
}


def floats(*sizes: int) -> np.ndarray:
    return RANDOM.normal(size=sizes).astype(np.float32)


def model_of(operator: str, attributes: dict[str, Any], arrays: Sequence[np.ndarray]) -> ir.Model:
    """Two nodes of one operator on the same inputs, added up."""
    inputs = [ir.val(f"x{i}", ir.DataType.from_numpy(a.dtype), ir.Shape(a.shape)) for i, a in enumerate(arrays)]
    nodes = [ir.node(operator, inputs, attributes) for _ in range(2)]
    for node in nodes:
        node.metadata_props[MODULE_KEY] = "model.part"
    total = ir.node("Add", [node.outputs[0] for node in nodes])
    (out,) = total.outputs
    out.name, out.dtype, out.shape = "y", ir.DataType.FLOAT, ir.Shape([None] * arrays[0].ndim)
    graph = ir.Graph(inputs, [out], nodes=[*nodes, total], opset_imports={"": 24}, name="graph")
    return ir.Model(graph, ir_version=10)


def computed(model: ir.Model, arrays: Sequence[np.ndarray]) -> np.ndarray:
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {f"x{i}": array for i, array in enumerate(arrays)})
    return np.asarray(found)


def written_out(model: ir.Model, operator: str) -> ir.Model:
    """The model in opset 20, checked."""
    lowering = PASSES[operator]()
    assert lowering(model).modified
    assert not lowering(model).modified
    LowerOpsetPass(20)(model)
    assert not LowerOpsetPass(20)(model).modified
    assert all(node.metadata_props[MODULE_KEY] for node in model.graph if node.op_type != "Add")
    common.NameFixPass()(model)
    proto = ir.to_proto(model)
    assert proto.opset_import[0].version == 20 and operator not in {node.op_type for node in proto.graph.node}
    onnx.checker.check_model(proto, full_check=True)
    return model


def check(operator: str, attributes: dict[str, Any], *arrays: np.ndarray) -> None:
    model = model_of(operator, attributes, arrays)
    expected = computed(model, arrays)
    np.testing.assert_allclose(computed(written_out(model, operator), arrays), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("turned", [0, 4, 8])
@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("has_positions", [False, True])
def test_rotations_of_any_layout(interleaved: int, turned: int, rank: int, has_positions: bool) -> None:
    x = floats(2, 3, 5, 8) if rank == 4 else floats(2, 5, 24)
    half = (turned or 8) // 2
    tables = [floats(40, half) if has_positions else floats(2, 5, half) for _ in range(2)]
    positions = [RANDOM.integers(0, 40, (2, 5))] if has_positions else []
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": turned} | ({"num_heads": 3} if rank == 3 else {})
    check("RotaryEmbedding", attributes, x, *tables, *positions)


@pytest.mark.parametrize("axis", [-1, 2, -2])
def test_norms_over_the_last_axes(axis: int) -> None:
    check("RMSNormalization", {"axis": axis, "epsilon": 1e-3}, floats(2, 5, 8) * 300, floats(8))


@pytest.mark.parametrize("starts", [(0, 0, 0), (3, 0, 7), (15, 15, 15)])
@pytest.mark.parametrize("rows", [1, 5])
def test_rows_go_to_the_slots_of_their_own_sequence(starts: tuple[int, ...], rows: int) -> None:
    check("TensorScatter", {"axis": -2}, floats(3, 2, 20, 4), floats(3, 2, rows, 4), np.array(starts))


def test_rows_without_a_first_slot_go_to_the_front() -> None:
    check("TensorScatter", {}, floats(2, 2, 6, 4), floats(2, 2, 3, 4))


def test_rows_behind_a_cache_change_nothing_but_its_last_slot() -> None:
    cache, update, first = floats(2, 2, 6, 4), floats(2, 2, 3, 4), np.array([5, 1 << 40])
    model = written_out(model_of("TensorScatter", {}, (cache, update, first)), "TensorScatter")
    found = computed(model, (cache, update, first)) / 2
    np.testing.assert_array_equal(found[:, :, :5], cache[:, :, :5])


@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("has_mask", [False, True])
@pytest.mark.parametrize("attributes", [{}, {"scale": 0.7}, {"softcap": 1.5}])
def test_attention_of_grouped_queries(heads: int, has_mask: bool, attributes: dict[str, float]) -> None:
    mask = [RANDOM.random((2, 1, 5, 9)) < 0.5] if has_mask else []
    for rows in mask:
        rows[..., 0] = True
    check("Attention", attributes, floats(2, heads, 5, 8), floats(2, 2, 9, 8), floats(2, 2, 9, 6), *mask)


@pytest.mark.parametrize("has_mask", [False, True])
def test_queries_of_a_group_are_rows_of_one_head(has_mask: bool) -> None:
    mask = [RANDOM.random((2, 1, 5, 9)) < 0.5] if has_mask else []
    for rows in mask:
        rows[..., 0] = True
    arrays = floats(2, 6, 5, 8), floats(2, 2, 9, 8), floats(2, 2, 9, 6), *mask
    model = model_of("Attention", {"scale": 0.7}, arrays)
    expected = computed(model, arrays)
    assert StackQueryGroupsPass()(model).modified
    assert not StackQueryGroupsPass()(model).modified
    common.NameFixPass()(model)
    attention = [node for node in model.graph if node.op_type == "Attention"]
    assert len(attention) == 2
    assert all(node.inputs[0] is not None and list(node.inputs[0].shape or ())[:2] == [2, 2] for node in attention)
    assert sum(node.op_type == "Concat" for node in model.graph) == has_mask  # one for both
    np.testing.assert_allclose(computed(model, arrays), expected, rtol=1e-5, atol=1e-5)


def test_a_group_with_one_head_of_keys_stays_where_no_kernel_has_one_head() -> None:
    model = model_of("Attention", {}, (floats(1, 4, 3, 8), floats(1, 1, 5, 8), floats(1, 1, 5, 8)))
    assert not StackQueryGroupsPass()(model).modified
    assert StackQueryGroupsPass(least_heads=1)(model).modified


def test_a_row_that_sees_nothing_is_finite() -> None:
    arrays = floats(1, 2, 3, 4), floats(1, 2, 5, 4), floats(1, 2, 5, 4), np.zeros((1, 1, 3, 5), np.bool_)
    found = computed(written_out(model_of("Attention", {}, arrays), "Attention"), arrays)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("operator", "attributes", "arrays", "said"),
    [
        ("TensorScatter", {"mode": "circular"}, (floats(1, 2, 6, 4), floats(1, 2, 1, 4)), "has no such operator"),
        ("Attention", {"is_causal": 1}, [floats(1, 2, 3, 4)] * 3, "has no such operator"),
        ("DequantizeLinear", {"block_size": 2}, (np.zeros((2, 4), np.int8), floats(2, 2)), "without block_size"),
        ("Swish", {}, (floats(2, 3),), "has no such operator"),
    ],
)
def test_what_an_older_opset_lacks_is_named_with_its_module(
    operator: str, attributes: dict[str, Any], arrays: Sequence[np.ndarray], said: str
) -> None:
    model = model_of(operator, attributes, arrays)
    for lowering in PASSES.values():
        lowering()(model)
    with pytest.raises(BuildError, match=rf"{operator} in model\.part .* opset 20 .*{said}") as caught:
        LowerOpsetPass(20)(model)
    assert "--lowering native" in caught.value.action
