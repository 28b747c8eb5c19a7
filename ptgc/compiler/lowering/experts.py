"""LowerExpertsPass: experts that compute everything become ONNX Runtime's operators, which compute what was chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.quantize import WeightFormat, quantize_blocks
from ptgc.graphs.linear import only_user
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer, take_place

_LAST_TWO = (0, 2, 1)
_SMALLEST = 1e-30  # of the sum of a row's weights


@dataclass(frozen=True)
class _Experts:
    """A mixture of gated experts as `ptgc.exporters.experts` writes it."""

    rows: ir.Value  # [1, rows, hidden]
    gate_up: ir.Value  # constant [experts, 2 * inner, hidden]: all gates, then all that they gate
    down: ir.Value  # constant [experts, hidden, inner]
    weights: ir.Value  # [rows, experts], 0 for what was not chosen
    num_chosen: int  # experts of a row
    last: ir.Node  # gives [rows, hidden]


class LowerExpertsPass(ir.passes.InPlacePass):
    """Gated experts with SiLU become MoE, and where weights are quantised QMoE: each reads the chosen experts only.

    The operators choose for themselves by a softmax of what they are given, so that they are given the logarithm of
    the weights that the model chose, and what they return is multiplied by the sum of these.

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
        total = op("Max", op("ReduceSum", experts.weights, constant([1])), constant(np.float32(_SMALLEST)))
        logits = op("Log", op("Div", experts.weights, total))
        rows = op("Squeeze", experts.rows, constant([0]))
        attributes: dict[str, int | float | str] = {
            "k": experts.num_chosen,
            "activation_type": "swiglu",
            "swiglu_fusion": 1,
            "activation_alpha": 1.0,
            "activation_beta": 0.0,
            "normalize_routing_weights": 1,
        }
        block_size = self._block_size(experts)
        if block_size is None or self._format is None:
            gate_up = add_initializer(graph, f"{experts.gate_up.name}.interleaved", _interleaved(experts.gate_up))
            out = op("MoE", rows, logits, gate_up, None, experts.down, domain="com.microsoft", **attributes)
        else:
            fc1 = _quantized(graph, f"{experts.gate_up.name}", _interleaved(experts.gate_up), self._format, block_size)
            fc2 = _quantized(graph, f"{experts.down.name}", _array(experts.down), self._format, block_size)
            out = op(
                "QMoE",
                rows,
                logits,
                *fc1,
                None,
                *fc2,
                domain="com.microsoft",
                expert_weight_bits=self._format.bits,
                block_size=block_size,
                **attributes,
            )
        out = op("Mul", out, total)
        piece.insert_before(experts.last)
        take_place(out, experts.last.outputs[0])
        graph.remove(experts.last)

    def _block_size(self, experts: _Experts) -> int | None:
        """A block that divides both matrices' inputs; None where experts stay as they are."""
        if self._format is None:
            return None
        inputs = [int(matrix.const_value.shape[2]) for matrix in (experts.gate_up, experts.down) if matrix.const_value]
        sizes = (size for size in self._format.block_sizes if all(columns % size == 0 for columns in inputs))
        return next(sizes, None)


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
    if kept is None or weighted is None or last is None or down is None or last.attributes.get_int("keepdims", 1):
        return None
    other = next((value for value in weighted.inputs if value is not kept.outputs[0]), None)
    weights = _before(_before(other, "Unsqueeze"), "Transpose")
    scatter = weights.producer() if weights is not None else None
    rows = node.inputs[0]
    if weights is None or rows is None or scatter is None or scatter.op_type != "ScatterElements":
        return None
    index = scatter.inputs[1]
    chosen = index.shape[1] if index is not None and index.shape is not None else None
    return _Experts(rows, gate_up, down, weights, chosen, last) if isinstance(chosen, int) else None


def _stack(product: ir.Node) -> ir.Value | None:
    """The constant `[experts, out, in]` that a product is with."""
    if product.op_type != "MatMul":
        return None
    matrices = _before(product.inputs[1], "Transpose")
    if matrices is None or matrices.const_value is None or len(matrices.const_value.shape) != 3:
        return None
    transpose = product.inputs[1].producer() if product.inputs[1] is not None else None
    assert transpose is not None
    return matrices if tuple(transpose.attributes.get_ints("perm", ())) == _LAST_TWO else None


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


def _array(matrices: ir.Value) -> np.ndarray:
    assert matrices.const_value is not None
    return matrices.const_value.numpy().astype(np.float32, copy=False)


def _interleaved(gate_up: ir.Value) -> np.ndarray:
    """Rows of gates and of what they gate in turns."""
    array = _array(gate_up)
    experts, outputs, inputs = array.shape
    return np.ascontiguousarray(array.reshape(experts, 2, outputs // 2, inputs).swapaxes(1, 2).reshape(array.shape))


def _quantized(
    graph: ir.Graph, name: str, matrices: np.ndarray, weight_format: WeightFormat, block_size: int
) -> tuple[ir.Value, ir.Value]:
    """Integers around 8 or 128, packed, and scales by block."""
    found = [quantize_blocks(np.ascontiguousarray(one.T), weight_format.bits, block_size) for one in matrices]
    integers = np.stack([one for one, _ in found]).view(np.uint8)
    if weight_format.bits == 4:
        low, high = integers[..., 0::2] & 15 ^ 8, integers[..., 1::2] & 15 ^ 8
        integers = low | high << 4
    else:
        integers = integers ^ np.uint8(0x80)
    scales = np.stack([one for _, one in found])
    return (
        add_initializer(graph, f"{name}.experts", integers),
        add_initializer(graph, f"{name}.experts.scales", scales),
    )
