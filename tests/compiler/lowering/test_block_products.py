"""Products of few rows as ONNX Runtime runs them: against float64, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ptgc.compiler.lowering.block_products import in_tiles, scales_in_tiles
from ptgc.compiler.session_options import session_options


def _model(op: str, values: np.ndarray, scales: np.ndarray, *, constant: bool = True, **about: Any) -> bytes:
    """A graph of one operator over packed weights."""
    dtype = TensorProto.FLOAT if op == "BlockProduct" else TensorProto.INT64
    inputs = [helper.make_tensor_value_info("rows", dtype, None)]
    held = [numpy_helper.from_array(values, "values"), numpy_helper.from_array(scales, "scales")]
    if not constant:
        inputs.append(helper.make_tensor_value_info("values", TensorProto.UINT8, values.shape))
        held = held[1:]
    about = about if op == "BlockGather" else {"gated": 0, "epsilon": 0.0} | about
    node = helper.make_node(op, ["rows", "values", "scales"], ["out"], domain="ptgc", **about)
    graph = helper.make_graph(
        [node], "product", inputs, [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)], held
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ptgc", 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return model


def _session(model: bytes) -> Any:
    return onnxruntime.InferenceSession(model, session_options(model), providers=["CPUExecutionProvider"])


def _packed(weights: np.ndarray, bits: int) -> np.ndarray:
    """Integers `[out, in]` as the compiler stores them."""
    offset = (weights + (8 if bits == 4 else 128)).astype(np.uint8)
    return in_tiles(offset if bits == 8 else offset[:, ::2] | offset[:, 1::2] << 4, bits)


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([4, 8]),
    block=st.sampled_from([16, 32, 48, 64, 128]),
    blocks=st.integers(1, 7),
    outputs=st.integers(1, 70),
    rows=st.integers(0, 65),
    size=st.sampled_from([0.0, 1e-40, 6e-8, 1e-3, 0.1, 1e4, 1e20]),
    seed=st.integers(0, 1000),
)
def test_products_of_any_shape_are_those_of_float64(
    bits: int, block: int, blocks: int, outputs: int, rows: int, size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    inputs, limit = block * blocks, 1 << (bits - 1)
    weights = rng.integers(-limit, limit, (outputs, inputs))
    scales = (rng.uniform(0.5, 1, (outputs, blocks)) * size).astype(np.float32)
    if seed % 2:
        with np.errstate(over="ignore"):
            scales = np.nan_to_num(scales.astype(np.float16), posinf=1).astype(np.float32)
    about: dict[str, Any] = {"K": inputs, "N": outputs, "bits": bits, "block_size": block}
    model = _model("BlockProduct", _packed(weights, bits), scales_in_tiles(scales), **about)
    # Integers up to 127, which every block has, stay what they are when rows are rounded.
    given_rows = rng.integers(-127, 128, (rows, inputs)).astype(np.float32)
    given_rows[:, ::block] = 127
    (found,) = _session(model).run(None, {"rows": given_rows})
    matrix = weights * np.repeat(scales.astype(np.float64), block, axis=1)
    expected = given_rows.astype(np.float64) @ matrix.T
    most = np.abs(given_rows).astype(np.float64) @ np.abs(matrix).T
    assert found.shape == (rows, outputs)
    assert (np.abs(found - expected) <= most * blocks * 2.0**-23 + 1e-36).all()
    looked_up = _session(_model("BlockGather", _packed(weights, bits), scales_in_tiles(scales), **about))
    ids = np.array([[outputs - 1, 0]])
    np.testing.assert_array_equal(looked_up.run(None, {"rows": ids})[0], matrix[ids].astype(np.float32))


@pytest.mark.parametrize("with_sum", [True, False])
def test_norms_and_gates_are_those_of_float64(with_sum: bool) -> None:
    rng, inputs, outputs = np.random.default_rng(0), 64, 96
    weights = rng.integers(-128, 128, (outputs, inputs))
    scales = np.full((outputs, 2), 2.0**-9, np.float32)
    norm = rng.uniform(0.5, 2, inputs).astype(np.float32)
    bias = rng.normal(size=outputs).astype(np.float32)
    rows, added = rng.normal(size=(2, 2, 5, inputs)).astype(np.float32)
    names = ["rows", "values", "scales", "bias", "added" if with_sum else "", "norm"]
    node = helper.make_node(
        "BlockProduct", names, ["out", "sum"][: 2 if with_sum else 1], domain="ptgc", gated=1, epsilon=1e-3,
        K=inputs, N=outputs, bits=8, block_size=32,
    )  # fmt: skip
    held = {"values": _packed(weights, 8), "scales": scales_in_tiles(scales), "bias": bias, "norm": norm}
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("rows", "added")[: 1 + with_sum]],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ptgc", 1)]
    session = _session(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    found = session.run(None, {"rows": rows, "added": added} if with_sum else {"rows": rows})
    total = rows.astype(np.float64) + (added if with_sum else 0)
    normed = total / np.sqrt((total**2).mean(-1, keepdims=True) + 1e-3) * norm
    products = (normed @ (weights * 2.0**-9).T + bias).reshape(2, 5, -1, 2, 16)
    gate, gated = products[:, :, :, 0], products[:, :, :, 1]
    expected = (gate / (1 + np.exp(-gate)) * gated).reshape(2, 5, outputs // 2)
    assert np.abs(found[0] - expected).max() < 0.02 * np.abs(expected).max()  # rows are rounded to int8
    if with_sum:
        np.testing.assert_array_equal(found[1], rows + added)


def test_scales_take_half_the_memory_where_nothing_is_lost() -> None:
    exact = np.array([[0.5, 2.0**-20], [0.25, 1]], np.float32)
    assert scales_in_tiles(exact).dtype == np.float16
    for lost in (0.1, 1e-30, 1e9):
        assert scales_in_tiles(np.array([[0.5, lost]], np.float32)).dtype == np.float32


GOOD: dict[str, Any] = {"K": 32, "N": 16, "bits": 8, "block_size": 16}
VALUES, SCALES = np.zeros((1, 8, 64), np.uint8), np.ones((1, 2, 16), np.float16)


@pytest.mark.parametrize(
    ("values", "scales", "about", "constant", "message"),
    [
        (VALUES[:, :7], SCALES, {}, True, "448 entries instead of 512"),
        (VALUES, SCALES[:, :1], {}, True, "16 entries instead of 32"),
        (VALUES, SCALES * np.float16(np.nan), {}, True, "a scale that is no finite number"),
        (VALUES, SCALES.astype(np.float32) * np.float32(np.inf), {}, True, "a scale that is no finite number"),
        (VALUES, SCALES.astype(np.float64), {}, True, "float or float16"),
        (VALUES, SCALES, {"bits": 5}, True, "4 or 8"),
        (VALUES, SCALES, {"block_size": 24}, True, "multiple of 16"),
        (VALUES, SCALES, {"K": 40}, True, "multiple of 16"),
        (VALUES, SCALES, {"K": -1}, True, "K is out of range"),
        (VALUES, SCALES, {"N": 1 << 40}, True, "N is out of range"),
        (VALUES, SCALES, {}, False, "constants"),
    ],
)
@pytest.mark.parametrize("op", ["BlockProduct", "BlockGather"])
def test_damaged_weights_are_refused_when_they_are_loaded(
    op: str, values: np.ndarray, scales: np.ndarray, about: dict[str, int], constant: bool, message: str
) -> None:
    with pytest.raises(Exception, match=message):
        _session(_model(op, values, scales, constant=constant, **(GOOD | about)))


def test_rows_of_another_size_and_ids_of_no_row_are_refused() -> None:
    with pytest.raises(Exception, match="whole tiles"):
        _session(_model("BlockProduct", VALUES, SCALES, **GOOD, gated=1))
    product = _session(_model("BlockProduct", VALUES, SCALES, **GOOD))
    with pytest.raises(Exception, match="another size"):
        product.run(None, {"rows": np.zeros((2, 16), np.float32)})
    gather = _session(_model("BlockGather", VALUES, SCALES, **GOOD))
    for lost in (16, -17):
        with pytest.raises(Exception, match="no row"):
            gather.run(None, {"rows": np.array([lost])})
