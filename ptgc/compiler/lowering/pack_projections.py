"""PackProjectionsPass: products that read the same rows become one product."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ptgc.graphs.linear import Linear, bias_of, linears
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer, take_place


class PackProjectionsPass(ir.passes.InPlacePass):
    """Query, key and value projections, and gate and up projections, each become one MatMul and a Split.

    One product over more columns costs one dispatch to the threads instead of three. Weights stay lazy: the packed
    matrix exists only while it is written or quantised.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        groups: dict[ir.Value, list[Linear]] = defaultdict(list)
        for linear in linears(model.graph):
            rows = linear.node.inputs[0]
            if rows is not None and not linear.transposed and len(linear.weight.uses()) == 1:
                groups[rows].append(linear)
        packable = [group for group in groups.values() if len(group) > 1]
        for group in packable:
            _pack(model.graph, group)
        return ir.passes.PassResult(model, bool(packable))


def _pack(graph: ir.Graph, group: Sequence[Linear]) -> None:
    biases = [bias_of(linear.node.outputs[0]) for linear in group]
    rows = group[0].node.inputs[0]
    assert rows is not None
    sizes = [linear.out_features for linear in group]
    paths = [linear.node.metadata_props.get(MODULE_KEY, "") for linear in group]
    piece = Piece("+".join(path for path in paths if path) or "packed")
    weight = _packed_weight(graph, group, f"{group[0].weight.name}.packed")
    packed = piece.op("MatMul", rows, weight)
    if any(biases):
        packed = piece.op("Add", packed, _packed_bias(graph, biases, sizes, f"{weight.name}.bias"))
    if rows.shape is not None:
        packed.shape, packed.type = ir.Shape([*rows.shape[:-1], sum(sizes)]), rows.type
    parts = piece.op_outputs("Split", packed, piece.constant(sizes), outputs=len(sizes), axis=-1)
    piece.insert_before(group[0].node)
    for linear, bias, part in zip(group, biases, parts, strict=True):
        last = bias[0] if bias else linear.node
        take_place(part, last.outputs[0])
        graph.remove([last, linear.node] if bias else [linear.node], safe=True)


def _packed_weight(graph: ir.Graph, group: Sequence[Linear], name: str) -> ir.Value:
    tensors = [linear.weight.const_value for linear in group]
    assert all(tensor is not None for tensor in tensors)
    dtype = group[0].weight.dtype
    assert dtype is not None
    shape = ir.Shape([group[0].in_features, sum(linear.out_features for linear in group)])

    def build() -> ir.TensorProtocol:
        return ir.tensor(np.concatenate([t.numpy() for t in tensors if t is not None], axis=1), dtype=dtype, name=name)

    value = ir.val(name, dtype, shape, const_value=ir.LazyTensor(build, dtype, shape, name=name))
    graph.register_initializer(value)
    return value


def _packed_bias(
    graph: ir.Graph, biases: Sequence[tuple[ir.Node, ir.Value] | None], sizes: Sequence[int], name: str
) -> ir.Value:
    arrays = []
    for bias, size in zip(biases, sizes, strict=True):
        given = bias[1].const_value if bias else None
        arrays.append(np.zeros(size, np.float32) if given is None else given.numpy())
    packed = np.concatenate([array.astype(next(a.dtype for a in arrays)) for array in arrays])
    return add_initializer(graph, name, packed)
