"""Pieces that move rows of a KV cache."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import Piece


def compact_rows(piece: Piece, cache: ir.Value, keep_rows: ir.Value, write_index: ir.Value) -> ir.Value:
    """Move slots `keep_rows[b, i]` to `write_index[b] + i`.

    Args:
        piece: Where the nodes go.
        cache: `[batch, heads, kv_capacity, head_dim]`.
        keep_rows: int64 `[batch, num_tokens]`, absolute slots.
        write_index: int64 `[batch]`.

    Returns:
        The cache after the move; bind it to the buffer of `cache` and nothing else is copied.
    """
    op, constant = piece.op, piece.constant
    shape = op("Shape", cache)
    heads = op("Slice", shape, constant([1]), constant([2]))
    width = op("Slice", shape, constant([3]), constant([4]))
    rows = op("Shape", keep_rows)
    batch = op("Slice", rows, constant([0]), constant([1]))
    count = op("Slice", rows, constant([1]), constant([2]))
    index = op("Unsqueeze", keep_rows, constant([1, 3]))
    index = op("Expand", index, op("Concat", batch, heads, count, width, axis=0))
    kept = op("GatherElements", cache, index, axis=2)
    return op("TensorScatter", cache, kept, write_index, axis=-2, mode="linear")
