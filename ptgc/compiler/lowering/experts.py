"""LowerExpertsPass: experts that compute every row become ONNX Runtime's operators for the chosen experts only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.lowering.quantized_weights import with_offset
from ptgc.compiler.precision.quantization.round_matrix import Rounded
from ptgc.graphs.experts import Experts, Stack, mixtures
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer, take_place


class LowerExpertsPass(ir.passes.InPlacePass):
    """Gated experts with SiLU become MoE, or QMoE if weights are quantised; both read only the chosen experts.

    The operators sum a row's experts in an order that depends on what other rows chose. Each row is therefore passed
    once for each of its experts, with one expert to choose, and is summed afterwards in the order of the model's
    choice. So no row's last bits depend on its neighbours. With integers of 4 bits each row is passed twice: without
    VNNI, ONNX Runtime multiplies an expert's only row in another order than several rows.

    Args:
        rounded: Integers in blocks, from `round_experts`; other experts stay as they are.
    """

    def __init__(self, rounded: Mapping[ir.Value, Sequence[Rounded]]) -> None:
        super().__init__()
        self._rounded = rounded

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        found = mixtures(model.graph)
        for experts in found:
            self._lower(model.graph, experts)
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))

    def _lower(self, graph: ir.Graph, experts: Experts) -> None:
        piece = Piece(experts.last.metadata_props.get(MODULE_KEY, ""))
        op, constant = piece.op, piece.constant
        count, hidden = experts.num_chosen, experts.down.shape[1]
        bits = self._bits(experts)
        copies = 2 if bits == 4 else 1
        rows = op("Reshape", op("Squeeze", experts.rows, constant([0])), constant([-1, 1, hidden]))
        rows = op("Reshape", op("Expand", rows, constant([1, copies * count, 1])), constant([-1, hidden]))
        depth = constant([experts.gate_up.shape[0]])
        chosen = op("Concat", experts.chosen, experts.chosen, axis=-1) if copies > 1 else experts.chosen
        flat = op("Reshape", chosen, constant([-1]))
        router = op("OneHot", flat, depth, constant(np.array([0, 1], np.float32)), axis=-1)
        attributes: dict[str, Any] = {
            "k": 1,
            "activation_type": "swiglu",
            "swiglu_fusion": 1,
            "activation_alpha": 1.0,
            "activation_beta": 0.0,
            "normalize_routing_weights": 1,
        }
        gate_up, down = experts.gate_up, experts.down
        names = [f"{stack.value.name}.experts" for stack in (gate_up, down)]
        if bits < 32:
            up = _packed(graph, names[0], self._rounded[gate_up.value], interleaved=True)
            back = _packed(graph, names[1], self._rounded[down.value], interleaved=False)
            numbers, scales = self._rounded[down.value][0]
            attributes |= {
                "expert_weight_bits": bits,
                "block_size": numbers.shape[1] // scales.shape[1],
                "accuracy_level": 4,
            }
            out = op("QMoE", rows, router, *up, None, *back, domain="com.microsoft", **attributes)
        else:
            stacked = [
                _float_stack(graph, names[0], gate_up, lambda: _interleaved(gate_up.array())),
                _float_stack(graph, names[1], down, down.array),
            ]
            out = op("MoE", rows, router, stacked[0], None, stacked[1], domain="com.microsoft", **attributes)
        out = op("Reshape", out, constant([-1, copies * count, hidden]))
        if copies > 1:
            out = op("Slice", out, constant([0]), constant([count]), constant([1]))
        out = op("Mul", out, op("Unsqueeze", experts.weights, constant([-1])))
        # ReduceSum would sum a single row in another order than several rows.
        parts = piece.op_outputs("Split", out, constant([1] * count), outputs=count, axis=1)
        out = op("Squeeze", op("Sum", *parts), constant([1]))
        piece.insert_before(experts.last)
        take_place(out, experts.last.outputs[0])
        graph.remove(experts.last, safe=True)

    def _bits(self, experts: Experts) -> int:
        """Bits of the rounded weights; 32 if they are not rounded."""
        if experts.gate_up.value not in self._rounded or experts.down.value not in self._rounded:
            return 32
        numbers, _ = self._rounded[experts.down.value][0]
        return 4 if numbers.dtype == ml_dtypes.int4 else 8


def _float_stack(graph: ir.Graph, name: str, stack: Stack, build: Callable[[], np.ndarray]) -> ir.Value:
    """A constant `[experts, out, in]`, computed only when it is written."""
    shape = ir.Shape(stack.shape)
    tensor = ir.LazyTensor(lambda: ir.tensor(build(), name=name), ir.DataType.FLOAT, shape, name=name)
    value = ir.val(name, ir.DataType.FLOAT, shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _packed(graph: ir.Graph, name: str, rounded: Sequence[Rounded], *, interleaved: bool) -> tuple[ir.Value, ir.Value]:
    """Each expert's matrix as packed integers with offset 8 or 128, and scales by block."""
    integers, scales = (np.stack([one[part] for one in rounded]) for part in (0, 1))
    if interleaved:
        integers, scales = _interleaved(integers), _interleaved(scales)
    bits = 4 if integers.dtype == ml_dtypes.int4 else 8
    packed = with_offset(ir.tensor(integers), bits).reshape(*integers.shape[:2], -1)
    return add_initializer(graph, name, packed), add_initializer(graph, f"{name}.scales", scales)


def _interleaved(arrays: np.ndarray) -> np.ndarray:
    """Interleave the rows of gates with the rows that they gate, `[experts, out, n]`."""
    experts, outputs, size = arrays.shape
    turns = arrays.reshape(experts, 2, outputs // 2, size).swapaxes(1, 2)
    return np.ascontiguousarray(turns.reshape(arrays.shape))
