"""WriteOutTensorScatterPass: writes new rows of a cache with ScatterND."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.compiler.lowering.write_out_attention import PORTABLE, WRITTEN_OUT_KEY
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place

_Key = tuple[ir.Value | None, int, object, object]
"""What the indices depend on: the first slot, heads, capacity and rows."""


class WriteOutTensorScatterPass(ir.passes.InPlacePass):
    """Row `t` of sequence `b` goes to slot `write_index[b] + t` of every head, whole heads at a time.

    The result is a new tensor, so the engine reads and writes the whole cache. A Where over all slots would do so too,
    and would also need a gathered update of the cache's size. ScatterElements would read an index for each number,
    instead of three for each row.

    A slot behind the last one is clamped to the last one, so that nothing outside the cache is ever written. The shapes
    of a build ensure that this does not happen (docs/bundle.md).

    Requires: caches `[batch, heads, capacity, head_dim]` with static heads, of mode linear, written along axis -2.
    Ensures: no such TensorScatter is left; the nodes that replace it carry the reason as metadata, and layers that
    write to the same slots share their indices.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        nodes = [node for node in model.graph if node.op_type == "TensorScatter" and _is_linear(node)]
        made: dict[_Key, ir.Value] = {}
        for node in nodes:
            _write_out(model.graph, node, made)
        return ir.passes.PassResult(model, bool(nodes))


def _is_linear(node: ir.Node) -> bool:
    cache = node.inputs[0]
    linear = node.attributes.get_string("mode", "linear") == "linear"
    along_slots = node.attributes.get_int("axis", -2) in (-2, 2)
    return linear and along_slots and cache is not None and cache.shape is not None and len(cache.shape) == 4


def _size(value: ir.Value, axis: int) -> object:
    """A number or name that is equal if the sizes are equal; for an unnamed size, the value itself."""
    assert value.shape is not None
    size = value.shape[axis]
    return size if isinstance(size, int) else size.value or value


def _write_out(graph: ir.Graph, node: ir.Node, made: dict[_Key, ir.Value]) -> None:
    cache, update, write_index = (*node.inputs, None)[:3]
    assert cache is not None and cache.shape is not None and update is not None and update.shape is not None
    heads = cache.shape[1]
    assert isinstance(heads, int)
    piece = Piece(node.metadata_props.get(MODULE_KEY, ""))
    key = (write_index, heads, _size(cache, 2), _size(update, 2))
    if key not in made:
        made[key] = _indices(piece, cache, update, write_index, heads)
    out = piece.op("ScatterND", cache, made[key], update)
    for written in piece.nodes:
        written.metadata_props[WRITTEN_OUT_KEY] = PORTABLE
    piece.insert_before(node)
    take_place(out, node.outputs[0])
    graph.remove(node, safe=True)


def _indices(piece: Piece, cache: ir.Value, update: ir.Value, write_index: ir.Value | None, heads: int) -> ir.Value:
    """Where each row of an update goes: int64 `[batch, heads, num_tokens, 3]`, sequence, head and slot."""
    op, constant = piece.op, piece.constant
    zero, one, last = constant(0), constant(1), constant([-1])
    batch, num_tokens, capacity = (
        op("Shape", value, start=axis, end=axis + 1) for value, axis in ((update, 0), (update, 2), (cache, 2))
    )
    rows = op("Range", zero, op("Squeeze", num_tokens), one)
    if write_index is not None:
        rows = op("Add", op("Unsqueeze", write_index, last), rows)  # [batch, num_tokens]
    slots = op("Max", op("Min", rows, op("Sub", capacity, constant([1]))), constant([0]))
    slots = op("Unsqueeze", slots, constant([-2]))  # [batch, 1, num_tokens]
    sequences = op("Unsqueeze", op("Range", zero, op("Squeeze", batch), one), constant([1, 2]))
    of_heads = op("Unsqueeze", constant(list(range(heads))), last)
    shape = op("Concat", batch, constant([heads]), num_tokens, axis=0)
    parts = (op("Unsqueeze", op("Expand", part, shape), last) for part in (sequences, of_heads, slots))
    return op("Concat", *parts, axis=-1)
