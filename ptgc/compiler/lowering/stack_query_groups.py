"""StackQueryGroupsPass: queries that share keys and values become rows of one head."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place

StackedMasks = dict[tuple[ir.Value, int], ir.Value]
"""Repeated masks, by the original mask and the number of repetitions."""


class StackQueryGroupsPass(ir.passes.InPlacePass):
    """Grouped-query attention (Ainslie et al., arXiv 2305.13245) gets as many query heads as key heads.

    `[batch, heads, rows, d]` is reshaped to `[batch, kv_heads, group * rows, d]`, which moves no data, and the mask
    repeats its rows for a group. TensorRT-RTX 1.7.1 would repeat the caches instead, in every round.

    Requires: for nodes that `is_plain` accepts, known numbers of heads and head sizes, and four-dimensional masks with
    a row for each row of the query.
    Ensures: such a node has one query head for each key head, if it has at least `least_heads` key heads.

    Args:
        least_heads: Fewest key heads; TensorRT-RTX 1.7.1 has no attention kernel for a single head.
    """

    def __init__(self, least_heads: int = 2) -> None:
        super().__init__()
        self._least_heads = least_heads

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        masks: StackedMasks = {}
        modified = False
        for node in list(model.graph):
            if is_plain(node) and group_size(node) > 1 and static_size(node.inputs[1], 1) >= self._least_heads:
                stack_query_group(node, masks)
                modified = True
        return ir.passes.PassResult(model, modified)


def is_plain(node: ir.Node) -> bool:
    """Whether a node is Attention of four-dimensional queries, in which nothing but the mask hides slots."""
    if node.op_type != "Attention" or node.attributes.get_int("is_causal", 0) != 0:
        return False
    query = node.inputs[0]
    has_heads = query is not None and query.shape is not None and len(query.shape) == 4
    return has_heads and len(node.outputs) == 1 and all(value is None for value in node.inputs[4:])


def static_size(value: ir.Value | None, axis: int) -> int:
    """A size, which must be known."""
    assert value is not None and value.shape is not None
    size = value.shape[axis]
    assert isinstance(size, int)
    return size


def group_size(attention: ir.Node) -> int:
    """Query heads for each key head."""
    return static_size(attention.inputs[0], 1) // static_size(attention.inputs[1], 1)


def stack_query_group(attention: ir.Node, masks: StackedMasks) -> ir.Node:
    """Stack the query groups of one plain Attention; returns the node that replaces it."""
    query, key, value, mask = (*attention.inputs, None)[:4]
    assert query is not None and query.shape is not None and attention.graph is not None
    group, heads, kv_heads = group_size(attention), static_size(query, 1), static_size(key, 1)
    piece = Piece(attention.metadata_props.get(MODULE_KEY, ""))
    rows = piece.op("Reshape", query, piece.constant([0, kv_heads, -1, static_size(query, 3)]))
    _describe(rows, (query.shape[0], kv_heads, None, static_size(query, 3)), query.dtype)
    if mask is not None:
        if (mask, group) not in masks:
            masks[mask, group] = piece.op("Concat", *[mask] * group, axis=2)
            _describe(masks[mask, group], (None, None, None, None), mask.dtype)
        mask = masks[mask, group]
    attributes = {name: attribute.value for name, attribute in attention.attributes.items()}
    stacked = piece.op("Attention", rows, key, value, mask, **attributes)
    _describe(stacked, (query.shape[0], kv_heads, None, static_size(value, 3)), query.dtype)
    out = piece.op("Reshape", stacked, piece.constant([0, heads, -1, static_size(value, 3)]))
    piece.insert_before(attention)
    take_place(out, attention.outputs[0])
    attention.graph.remove(attention, safe=True)
    replacement = stacked.producer()
    assert replacement is not None
    return replacement


def _describe(value: ir.Value, shape: tuple[int | ir.SymbolicDim | None, ...], dtype: ir.DataType | None) -> None:
    value.shape = ir.Shape(shape)
    if dtype is not None:
        value.dtype = dtype
