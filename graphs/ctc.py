"""A piece that turns the rows of a CTC decoder into a text."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import Piece
from ptgc.graphs.placement import count, keep_only, positions_below


def collapse(
    piece: Piece, logits: ir.Value, source_mask: ir.Value, upsampling: int, blank_token_id: int
) -> tuple[ir.Value, ir.Value]:
    """The most likely token of every row, without repeats and then without blanks (Graves et al., 2006, section 3.2).

    Args:
        piece: Where the nodes go.
        logits: `[batch, rows, vocab]`, `upsampling` rows for each source token.
        source_mask: bool `[batch, source_length]`; padding comes after the source.
        upsampling: Rows for each source token.
        blank_token_id: The token that stands for nothing.

    Returns:
        int64 ids `[batch, rows]`, with blanks after the text, and its lengths `[batch]`.
    """
    op, constant = piece.op, piece.constant
    ids = op("ArgMax", logits, axis=-1, keepdims=0, select_last_index=0)
    valid = positions_below(piece, ids, op("Mul", count(piece, source_mask), constant(upsampling)))
    blank = constant(blank_token_id)
    first = op("Slice", ids, constant([0]), constant([1]), constant([1]))
    before = op("Slice", ids, constant([0]), constant([-1]), constant([1]))
    before = op("Concat", op("Expand", blank, op("Shape", first)), before, axis=1)
    new = op("And", op("Not", op("Equal", ids, blank)), op("Not", op("Equal", ids, before)))
    return keep_only(piece, ids, op("And", new, valid), blank_token_id)
