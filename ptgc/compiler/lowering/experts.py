"""LowerExpertsPass: experts that compute everything become ONNX Runtime's operators, which compute what was chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.lowering.matmul_nbits import with_offset
from ptgc.compiler.quantization.rounding import quantize_blocks
from ptgc.compiler.quantization.weight_format import WeightFormat
from ptgc.graphs.linear import only_user
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer, take_place

_LAST_TWO = (0, 2, 1)


@dataclass(frozen=True)
class _Stack:
    """A constant matrix for each expert."""

    value: ir.Value  # [experts, in, out], or [experts, out, in] where `transposed`
    transposed: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(experts, out, in)`."""
        assert self.value.const_value is not None
        experts, one, other = self.value.const_value.shape.numpy()
        return (experts, one, other) if self.transposed else (experts, other, one)

    def array(self) -> np.ndarray:
        """float32 `[experts, out, in]`."""
        assert self.value.const_value is not None
        array = self.value.const_value.numpy().astype(np.float32, copy=False)
        return np.ascontiguousarray(array if self.transposed else array.swapaxes(1, 2))

    def interleaved(self) -> np.ndarray:
        """The same of gates and what they gate: their rows in turns."""
        array = self.array()
        experts, outputs, inputs = array.shape
        return np.ascontiguousarray(array.reshape(experts, 2, outputs // 2, inputs).swapaxes(1, 2).reshape(array.shape))


@dataclass(frozen=True)
class _Experts:
    """A mixture of gated experts as `ptgc.exporters.experts` writes it."""

    rows: ir.Value  # [1, rows, hidden]
    gate_up: _Stack  # hidden -> 2 * inner: all gates, then all that they gate
    down: _Stack  # inner -> hidden
    chosen: ir.Value  # int64 [rows, k], experts of each row
    weights: ir.Value  # [rows, k], theirs
    num_chosen: int  # k
    last: ir.Node  # gives [rows, hidden]


class LowerExpertsPass(ir.passes.InPlacePass):
    """Gated experts with SiLU become MoE, and where weights are quantised QMoE: each reads the chosen experts only.

    The operators add up a row's experts in an order that depends on what other rows chose. They are therefore given
    every row once for each of its experts, with one expert to choose, and the sum follows in the order of the
    model's choice: so that no row's last bits depend on its neighbours.

    Args:
        weight_format: How weights are quantised; None leaves them as they are.
    """

    def __init__(self, weight_format: WeightFormat | None) -> None:
        super().__init__()
        self._format = weight_format

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        found = [experts for node in list(model.graph) if (experts := _experts_at(node)) is not None]
        for experts in found:
            self._lower(model.graph, experts)
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))

    def _lower(self, graph: ir.Graph, experts: _Experts) -> None:
        piece = Piece(experts.last.metadata_props.get(MODULE_KEY, ""))
        op, constant = piece.op, piece.constant
        count, hidden = experts.num_chosen, experts.down.shape[1]
        rows = op("Reshape", op("Squeeze", experts.rows, constant([0])), constant([-1, 1, hidden]))
        rows = op("Reshape", op("Expand", rows, constant([1, count, 1])), constant([-1, hidden]))
        depth = constant([experts.gate_up.shape[0]])
        flat = op("Reshape", experts.chosen, constant([-1]))
        router = op("OneHot", flat, depth, constant(np.array([0, 1], np.float32)), axis=-1)
        attributes: dict[str, Any] = {
            "k": 1,
            "activation_type": "swiglu",
            "swiglu_fusion": 1,
            "activation_alpha": 1.0,
            "activation_beta": 0.0,
            "normalize_routing_weights": 1,
        }
        inputs = gcd(experts.gate_up.shape[2], experts.down.shape[2])  # one block size serves both
        block_size = self._format.block_size(inputs) if self._format is not None else None
        if block_size is None or self._format is None:
            up = _float_stack(
                graph, f"{experts.gate_up.value.name}.experts", experts.gate_up, experts.gate_up.interleaved
            )
            down = _float_stack(graph, f"{experts.down.value.name}.experts", experts.down, experts.down.array)
            out = op("MoE", rows, router, up, None, down, domain="com.microsoft", **attributes)
        else:
            integers = [
                _quantized(graph, f"{stack.value.name}.experts", array, self._format, block_size)
                for stack, array in (
                    (experts.gate_up, experts.gate_up.interleaved()),
                    (experts.down, experts.down.array()),
                )
            ]
            attributes |= {"expert_weight_bits": self._format.bits, "block_size": block_size, "accuracy_level": 4}
            out = op("QMoE", rows, router, *integers[0], None, *integers[1], domain="com.microsoft", **attributes)
        out = op("Reshape", out, constant([-1, count, hidden]))
        out = op("Mul", out, op("Unsqueeze", experts.weights, constant([-1])))
        # ReduceSum adds up a single row in another order than several.
        parts = piece.op_outputs("Split", out, constant([1] * count), outputs=count, axis=1)
        out = op("Squeeze", op("Sum", *parts), constant([1]))
        piece.insert_before(experts.last)
        take_place(out, experts.last.outputs[0])
        graph.remove(experts.last, safe=True)


def _experts_at(node: ir.Node) -> _Experts | None:
    """The experts whose first product this is."""
    gate_up = _stack(node)
    split = only_user(node.outputs[0], "Split") if gate_up is not None else None
    if gate_up is None or split is None or len(split.outputs) != 2:
        return None
    gate, gated = split.outputs
    active = _silu(gate)
    inner = only_user(active, "Mul") if active is not None else None
    if inner is None or gated not in inner.inputs:
        return None
    product = only_user(inner.outputs[0], "MatMul")
    down = _stack(product) if product is not None else None
    kept = only_user(product.outputs[0], "Where") if product is not None else None
    weighted = only_user(kept.outputs[0], "Mul") if kept is not None else None
    last = only_user(weighted.outputs[0], "ReduceSum") if weighted is not None else None
    if kept is None or weighted is None or last is None or down is None or last.attributes.get_int("keepdims", 1) != 0:
        return None
    other = next((value for value in weighted.inputs if value is not kept.outputs[0]), None)
    table = _before(_before(other, "Unsqueeze"), "Transpose")
    scatter = table.producer() if table is not None else None
    rows = node.inputs[0]
    if rows is None or scatter is None or scatter.op_type != "ScatterElements":
        return None
    _, chosen, weights = scatter.inputs
    count = chosen.shape[1] if chosen is not None and chosen.shape is not None else None
    if chosen is None or weights is None or not isinstance(count, int):
        return None
    return _Experts(rows, gate_up, down, chosen, weights, count, last)


def _stack(product: ir.Node) -> _Stack | None:
    """The constants that a product is with."""
    matrices = product.inputs[1] if product.op_type == "MatMul" else None
    producer = matrices.producer() if matrices is not None else None
    if producer is None:
        return _Stack(matrices, transposed=False) if _is_stack(matrices) and matrices is not None else None
    source = producer.inputs[0]
    turned = producer.op_type == "Transpose" and tuple(producer.attributes.get_ints("perm", ())) == _LAST_TWO
    return _Stack(source, transposed=True) if turned and _is_stack(source) and source is not None else None


def _is_stack(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 3


def _before(value: ir.Value | None, op_type: str) -> ir.Value | None:
    """What an operator of this type made the value of."""
    producer = value.producer() if value is not None else None
    return producer.inputs[0] if producer is not None and producer.op_type == op_type else None


def _silu(gate: ir.Value) -> ir.Value | None:
    """What is made of a gate by x * sigmoid(x)."""
    users = {use.node for use in gate.uses()}
    sigmoid = next((node for node in users if node.op_type == "Sigmoid"), None)
    product = only_user(sigmoid.outputs[0], "Mul") if sigmoid is not None else None
    if product is None or users != {sigmoid, product}:
        return None
    return product.outputs[0]


def _float_stack(graph: ir.Graph, name: str, stack: _Stack, build: Callable[[], np.ndarray]) -> ir.Value:
    """A constant `[experts, out, in]` that exists only while it is written."""
    shape = ir.Shape(stack.shape)
    tensor = ir.LazyTensor(lambda: ir.tensor(build(), name=name), ir.DataType.FLOAT, shape, name=name)
    value = ir.val(name, ir.DataType.FLOAT, shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _quantized(
    graph: ir.Graph, name: str, matrices: np.ndarray, weight_format: WeightFormat, block_size: int
) -> tuple[ir.Value, ir.Value]:
    """Integers around 8 or 128, packed, and scales by block."""
    found = [quantize_blocks(np.ascontiguousarray(one.T), weight_format.bits, block_size) for one in matrices]
    integers = np.stack([one for one, _ in found]).astype(weight_format.dtype)
    packed = with_offset(ir.tensor(integers), weight_format.bits).reshape(*integers.shape[:2], -1)
    scales = np.stack([one for _, one in found])
    return (
        add_initializer(graph, name, packed),
        add_initializer(graph, f"{name}.scales", scales),
    )
