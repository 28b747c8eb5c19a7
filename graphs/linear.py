"""Linear: a matrix product with a constant weight, in any of the exporter's forms."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Linear:
    """`MatMul(x, W)` or `MatMul(x, Transpose(W))` with a constant matrix."""

    node: ir.Node
    """The MatMul."""
    weight: ir.Value
    """The constant, `[in, out]`, or `[out, in]` if `transposed`."""
    transposed: bool
    """Whether there is a Transpose between the weight and the product."""

    @property
    def input_name(self) -> str:
        """Name of x."""
        value = self.node.inputs[0]
        assert value is not None and value.name is not None
        return value.name

    @property
    def in_features(self) -> int:
        """Columns of x."""
        return self._size(1 if self.transposed else 0)

    @property
    def out_features(self) -> int:
        """Columns of the product."""
        return self._size(0 if self.transposed else 1)

    def _size(self, axis: int) -> int:
        assert self.weight.shape is not None
        size = self.weight.shape[axis]
        assert isinstance(size, int)
        return size


def is_matrix(value: ir.Value | None) -> bool:
    """Whether the value is a two-dimensional constant."""
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 2


def linear_of(node: ir.Node | None) -> Linear | None:
    """The node as a Linear, or None if it is not one."""
    if node is None or node.op_type != "MatMul" or node.domain:
        return None
    weight = node.inputs[1]
    if is_matrix(weight):
        assert weight is not None
        return Linear(node, weight, transposed=False)
    producer = weight.producer() if weight is not None else None
    if producer is None or producer.op_type != "Transpose":
        return None
    perm = producer.attributes.get_ints("perm", (1, 0))
    source = producer.inputs[0]
    if is_matrix(source) and tuple(perm) == (1, 0):
        assert source is not None
        return Linear(node, source, transposed=True)
    return None


def linears(graph: ir.Graph) -> list[Linear]:
    """Every Linear of a graph, in order."""
    found = (linear_of(node) for node in graph)
    return [linear for linear in found if linear is not None]


def only_user(value: ir.Value, op_type: str) -> ir.Node | None:
    """The one node that reads the value, if it is of this type and the value is not a graph output."""
    users = value.uses()
    if len(users) != 1 or value.is_graph_output():
        return None
    node = next(iter(users)).node
    return node if node.op_type == op_type else None


def bias_of(value: ir.Value) -> tuple[ir.Node, ir.Value] | None:
    """The Add of a constant vector that follows, and the vector."""
    add = only_user(value, "Add")
    if add is None:
        return None
    other = add.inputs[0] if add.inputs[1] is value else add.inputs[1]
    if other is None or other.const_value is None or len(other.const_value.shape) != 1:
        return None
    return add, other
