"""Experts: a mixture of gated experts in the exporter's form, with every expert on every row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ptgc.graphs.linear import only_user

_LAST_TWO = (0, 2, 1)


@dataclass(frozen=True)
class Stack:
    """A stack of constant matrices, one for each expert, and the product that reads it."""

    node: ir.Node
    """The MatMul."""
    value: ir.Value
    """The constant, `[experts, in, out]`, or `[experts, out, in]` if `transposed`."""
    transposed: bool
    """Whether there is a Transpose between the constant and the product."""

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


@dataclass(frozen=True)
class Experts:
    """A mixture of gated experts in the form of `ptgc.exporters.tracing.experts`."""

    rows: ir.Value
    """`[1, rows, hidden]`."""
    gate_up: Stack
    """hidden -> 2 * inner: all gates, then all gated values."""
    inner: ir.Value
    """`[experts, rows, inner]`."""
    down: Stack
    """inner -> hidden."""
    chosen: ir.Value
    """int64 `[rows, k]`, the experts chosen by each row."""
    weights: ir.Value
    """`[rows, k]`, the weights of the chosen experts."""
    table: ir.Value
    """The weights as `[experts, rows, 1]`, 0 for experts that were not chosen."""
    num_chosen: int
    """k."""
    last: ir.Node
    """The node whose output is `[rows, hidden]`."""


def mixtures(graph: ir.Graph) -> list[Experts]:
    """Every mixture of gated experts with SiLU in a graph, in order."""
    found = (_experts_at(node) for node in graph)
    return [experts for experts in found if experts is not None]


def stacks(graph: ir.Graph) -> list[Stack]:
    """Every product with a stack of constant matrices, in order."""
    found = (_stack(node) for node in graph)
    return [stack for stack in found if stack is not None]


def _experts_at(node: ir.Node) -> Experts | None:
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
    table = next((value for value in weighted.inputs if value is not kept.outputs[0]), None)
    turned = _before(_before(table, "Unsqueeze"), "Transpose")
    scatter = turned.producer() if turned is not None else None
    rows = node.inputs[0]
    if rows is None or table is None or scatter is None or scatter.op_type != "ScatterElements":
        return None
    _, chosen, weights = scatter.inputs
    count = chosen.shape[1] if chosen is not None and chosen.shape is not None else None
    if chosen is None or weights is None or not isinstance(count, int):
        return None
    return Experts(rows, gate_up, inner.outputs[0], down, chosen, weights, table, count, last)


def _stack(node: ir.Node) -> Stack | None:
    """The stack of constants that a product reads."""
    matrices = node.inputs[1] if node.op_type == "MatMul" and not node.domain else None
    producer = matrices.producer() if matrices is not None else None
    if producer is None:
        return Stack(node, matrices, transposed=False) if _is_stack(matrices) and matrices is not None else None
    source = producer.inputs[0]
    turned = producer.op_type == "Transpose" and tuple(producer.attributes.get_ints("perm", ())) == _LAST_TWO
    return Stack(node, source, transposed=True) if turned and _is_stack(source) and source is not None else None


def _is_stack(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 3


def _before(value: ir.Value | None, op_type: str) -> ir.Value | None:
    """The input of the operator that produced the value, if it is of this type."""
    producer = value.producer() if value is not None else None
    return producer.inputs[0] if producer is not None and producer.op_type == op_type else None


def _silu(gate: ir.Value) -> ir.Value | None:
    """The result of x * sigmoid(x) for a gate x, if that is its only use."""
    users = {use.node for use in gate.uses()}
    sigmoid = next((node for node in users if node.op_type == "Sigmoid"), None)
    product = only_user(sigmoid.outputs[0], "Mul") if sigmoid is not None else None
    if product is None or users != {sigmoid, product}:
        return None
    return product.outputs[0]
