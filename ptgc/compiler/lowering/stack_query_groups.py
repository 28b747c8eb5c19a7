"""StackQueryGroupsPass: queries that share keys and values become rows of one head."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place

StackedMasks = dict[tuple[ir.Value, int], ir.Value]
"""Masks that were repeated already, by what they repeat and how often."""


class StackQueryGroupsPass(ir.passes.InPlacePass):
    """Attention of grouped queries (GQA, Ainslie et al., arXiv 2305.13245) has as many heads as its keys.

    `[batch, heads, rows, d]` is `[batch, kv_heads, group * rows, d]` in other words, so that nothing is moved, and the
    mask repeats its rows for a group. TensorRT-RTX 1.7.1 repeats the caches instead, in every round.

    Requires: known numbers of heads and head sizes of what `is_plain` names; masks of four dimensions, with a row for
        each row of the query.
    Ensures: it has one head of queries for each of keys and values, where there are `least_heads` of these.

    Args:
        least_heads: TensorRT-RTX 1.7.1 has no kernel for attention of a single head.
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
    """Whether a node is Attention of four-dimensional queries, with all that a row may see in the mask, if anywhere."""
    if node.op_type != "Attention" or node.attributes.get_int("is_causal", 0) != 0:
        return False
    query = node.inputs[0]
    has_heads = query is not None and query.shape is not None and len(query.shape) == 4
    return has_heads and len(node.outputs) == 1 and all(value is None for value in node.inputs[4:])


def static_size(value: ir.Value | None, axis: int) -> int:
    """A size that is known."""
    assert value is not None and value.shape is not None
    size = value.shape[axis]
    assert isinstance(size, int)
    return size


def group_size(attention: ir.Node) -> int:
    """Heads of queries for each of keys and values."""
    return static_size(attention.inputs[0], 1) // static_size(attention.inputs[1], 1)


def stack_query_group(attention: ir.Node, masks: StackedMasks) -> ir.Node:
    """Replace one plain Attention; the one that stands for it."""
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
