"""SetHalfTypePass: matrix products, attention and caches in half precision, sums and angles in float32."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.spec.ports import has_models_type

_HALF_OPERATORS = frozenset(
    {
        "MatMul",
        "Gemm",
        "Conv",
        "Einsum",
        "Attention",
        "TensorScatter",
        "ScatterND",
        "RotaryEmbedding",
        "RMSNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "DequantizeLinear",
        "QuantizeLinear",
    }
)
"""Always in half precision; TensorRT's norms sum in float32 internally."""
_FLOAT_OPERATORS = frozenset(
    {
        "Pow",
        "Exp",
        "Log",
        "Sqrt",
        "Reciprocal",
        "Cos",
        "Sin",
        "Softmax",
        "LogSoftmax",
        "CumSum",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "ReduceL2",
        "ReduceLogSumExp",
    }
)
"""Always in float32: half precision overflows in them, or is too coarse (an angle at position 3000)."""
_OTHER_RESULT = frozenset(
    {
        "Shape",
        "Size",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "Equal",
        "IsNaN",
        "IsInf",
        "ArgMax",
        "ArgMin",
        "NonZero",
        "QuantizeLinear",
    }
)
"""Operators whose results are integers, booleans or quantised numbers, whatever their inputs."""


class _Kind(Enum):
    """The floating-point type of a value."""

    NONE = "none"
    """It holds integers, booleans or quantised numbers."""
    HALF = "half"
    FLOAT = "float"
    EITHER = "either"
    """A constant; adopts its consumer's type."""


class SetHalfTypePass(ir.passes.InPlacePass):
    """A float32 graph computes in half precision where that is safe.

    Matrix products, attention, norms and caches are half precision. Powers, sums, exponentials and angles are float32,
    and so is every sum or product that uses one of their results, up to the next matrix product. So a norm that is
    written out, and a residual stream that such a norm feeds, stay float32 and do not overflow. A Cast to float32 in
    the graph starts such a float32 region too.

    Requires: a graph whose every floating-point value is float32 (SetFloatTypePass), without subgraphs.
    Ensures: every cache, activation and weight of a matrix product is of the half type; ports of fewer than three
    dimensions, which carry policy parameters and confidences, and random numbers stay float32.

    Args:
        dtype: FLOAT16 or BFLOAT16.
    """

    def __init__(self, dtype: ir.DataType) -> None:
        super().__init__()
        self._half = dtype
        self._numpy = np.dtype(np.float16) if dtype is ir.DataType.FLOAT16 else np.dtype(ml_dtypes.bfloat16)
        self._kinds: dict[ir.Value, _Kind] = {}
        self._casts: dict[tuple[ir.Value, _Kind], ir.Value] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        graph = model.graph
        self._kinds, self._casts = {}, {}
        if any(value.dtype is self._half for value in (*graph.initializers.values(), *graph.outputs)):
            return ir.passes.PassResult(model, modified=False)
        for value in graph.inputs:
            self._set(value, self._kind_of_input(value))
        for value in graph.initializers.values():
            self._kinds[value] = _Kind.EITHER if value.dtype is ir.DataType.FLOAT else _Kind.NONE
        for node in list(graph):
            self._visit(graph, node)
        self._set_outputs(graph)
        for value, kind in self._kinds.items():
            if kind is _Kind.EITHER and value.is_initializer() and not value.uses() and not value.is_graph_output():
                graph.initializers.pop(value.name or "")
        return ir.passes.PassResult(model, modified=True)

    def _kind_of_input(self, value: ir.Value) -> _Kind:
        if value.dtype is not ir.DataType.FLOAT:
            return _Kind.NONE
        return _Kind.HALF if _is_large_port(value) else _Kind.FLOAT

    def _set(self, value: ir.Value, kind: _Kind) -> None:
        self._kinds[value] = kind
        if kind is not _Kind.NONE:  # a new type object, because values and copies of a graph share them
            value.type = ir.TensorType(self._half if kind is _Kind.HALF else ir.DataType.FLOAT)

    def _visit(self, graph: ir.Graph, node: ir.Node) -> None:
        assert not any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        read = [self._kinds.get(value, _Kind.NONE) if value is not None else _Kind.NONE for value in node.inputs]
        kind = self._kind_of(node, read)
        for index, (value, given) in enumerate(zip(node.inputs, read, strict=True)):
            differs = kind in (_Kind.HALF, _Kind.FLOAT) and given not in (_Kind.NONE, kind)
            if value is not None and differs and node.op_type != "Cast":
                node.replace_input_with(index, self._cast(graph, value, kind, node))
        for index, value in enumerate(node.outputs):
            whole = node.op_type in _OTHER_RESULT or (node.op_type == "TopK" and index == 1)
            self._set(value, _Kind.NONE if whole else kind)

    def _kind_of(self, node: ir.Node, read: Sequence[_Kind]) -> _Kind:
        """The type that a node computes in."""
        if node.op_type == "Constant":
            return _Kind.EITHER if _is_float_constant(node) else _Kind.NONE
        if node.op_type == "Cast":
            return _Kind.FLOAT if ir.DataType(node.attributes["to"].as_int()) is ir.DataType.FLOAT else _Kind.NONE
        if node.op_type == "ConstantOfShape":
            value = node.attributes.get("value")
            made = ir.DataType.FLOAT if value is None else value.as_tensor().dtype
            return _Kind.FLOAT if made is ir.DataType.FLOAT else _Kind.NONE
        floats = {kind for kind in read if kind is not _Kind.NONE}
        if not floats:
            return _Kind.NONE
        if node.op_type in _HALF_OPERATORS:
            return _Kind.HALF
        if node.op_type in _FLOAT_OPERATORS or _Kind.FLOAT in floats:
            return _Kind.FLOAT
        if _Kind.HALF in floats:
            return _Kind.HALF
        return _Kind.EITHER if all(_is_small(value) for value in node.inputs) else _Kind.HALF

    def _cast(self, graph: ir.Graph, value: ir.Value, kind: _Kind, before: ir.Node | None) -> ir.Value:
        """The value in the type of `kind`: a converted constant, or a Cast in front of the first reader."""
        if self._kinds[value] is _Kind.EITHER and kind is _Kind.FLOAT:
            return value  # constants are float32 originally
        if (value, kind) not in self._casts:
            tensor = _constant(value)
            if tensor is None:
                made = self._cast_node(graph, value, kind, before)
            else:
                made = self._narrowed(graph, f"{value.name}.half", tensor)
            self._casts[value, kind] = made
            self._set(made, kind)
        return self._casts[value, kind]

    def _cast_node(self, graph: ir.Graph, value: ir.Value, kind: _Kind, before: ir.Node | None) -> ir.Value:
        producer = value.producer()
        path = producer.metadata_props.get(MODULE_KEY, "") if producer is not None else ""
        piece = Piece(path)
        made = piece.op("Cast", value, to=self._half if kind is _Kind.HALF else ir.DataType.FLOAT)
        made.name = f"{value.name}.{kind.value}"
        made.shape = value.shape
        if before is None:
            piece.append_to(graph)
        else:
            piece.insert_before(before)
        return made

    def _narrowed(self, graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        shape = ir.Shape(tensor.shape.numpy())

        def build() -> ir.TensorProtocol:
            return ir.tensor(_saturated(tensor.numpy(), self._numpy), dtype=self._half, name=name)

        made = ir.val(name, self._half, shape, const_value=ir.LazyTensor(build, self._half, shape, name=name))
        graph.register_initializer(made)
        return made

    def _set_outputs(self, graph: ir.Graph) -> None:
        for index, value in enumerate(graph.outputs):
            kind = _Kind.HALF if _is_large_port(value) else _Kind.FLOAT
            if self._kinds.get(value, _Kind.NONE) in (_Kind.NONE, kind):
                continue
            name = value.name
            made = self._cast(graph, value, kind, None)
            value.name, made.name = f"{name}.computed", name
            graph.outputs[index] = made


def _is_large_port(value: ir.Value) -> bool:
    return value.shape is not None and has_models_type(value.name or "", len(value.shape))


def _is_float_constant(node: ir.Node) -> bool:
    value = node.attributes.get("value")
    return value is not None and value.as_tensor().dtype is ir.DataType.FLOAT


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initializer or a Constant node; None for other values."""
    if value.const_value is not None:
        return value.const_value
    producer = value.producer()
    if producer is None or producer.op_type != "Constant":
        return None
    return producer.attributes["value"].as_tensor()


def _is_small(value: ir.Value | None) -> bool:
    """Whether a value is not a constant matrix; small constants may stay float32 until their consumer is known."""
    if value is None or value.const_value is None:
        return True
    return sum(size > 1 for size in value.const_value.shape.numpy()) < 2


def _saturated(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert to half precision; finite numbers stay finite (masks hold the most negative float32)."""
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]  # ml_dtypes has no types
    bounded = np.where(np.isfinite(array), np.clip(array, -largest, largest), array)
    return bounded.astype(dtype)
