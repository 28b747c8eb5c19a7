"""Pieces that edit a canvas: delete tokens, insert placeholders, fill them (Gu et al., arXiv 1905.11006, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ptgc.graphs.canvas import without_tokens
from ptgc.graphs.piece import Piece
from ptgc.graphs.placement import columns_of, keep_only, place, positions_below, sum_through
from ptgc.spec.edit import EditPlan


@dataclass(frozen=True)
class EditedCanvas:
    """A canvas and how much of it counts."""

    ids: ir.Value  # int64 [batch, canvas_length]
    lengths: ir.Value  # int64 [batch]


def delete_tokens(piece: Piece, scores: ir.Value, canvas: EditedCanvas, plan: EditPlan) -> EditedCanvas:
    """Take out the tokens that score higher for deletion (index 1) than for staying; begin and end stay.

    Args:
        piece: Where the nodes go.
        scores: `[batch, canvas_length, 2]`.
        canvas: Before.
        plan: Its special tokens.
    """
    op, constant = piece.op, piece.constant
    stays = op("Equal", op("ArgMax", scores, axis=-1, keepdims=0, select_last_index=0), constant(0))
    for token in (plan.bos_token_id, plan.eos_token_id):
        stays = op("Or", stays, op("Equal", canvas.ids, constant(token)))
    keep = op("And", stays, positions_below(piece, canvas.ids, canvas.lengths))
    return EditedCanvas(*keep_only(piece, canvas.ids, keep, plan.pad_token_id))


def insert_placeholders(piece: Piece, scores: ir.Value, canvas: EditedCanvas, plan: EditPlan) -> EditedCanvas:
    """Put placeholders behind every token but the last, as many as score highest; the foremost, if there is no room.

    Args:
        piece: Where the nodes go.
        scores: `[batch, canvas_length, most + 1]` of each number, from none on.
        canvas: Before.
        plan: Its special tokens.
    """
    op, constant = piece.op, piece.constant
    numbers = op("ArgMax", scores, axis=-1, keepdims=0, select_last_index=0)
    slots = positions_below(piece, canvas.ids, op("Sub", canvas.lengths, constant(1)))
    total = sum_through(piece, op("Where", slots, numbers, constant(0)))
    size = op("Shape", canvas.ids, start=1, end=2)
    total = op("Min", total, op("Unsqueeze", op("Sub", size, canvas.lengths), constant([1])))
    none = op("Expand", constant(0), op("Shape", op("Unsqueeze", canvas.lengths, constant([1]))))
    before = op("Slice", total, constant([0]), constant([-1]), constant([1]))
    positions = op("Add", columns_of(piece, canvas.ids), op("Concat", none, before, axis=1))
    lengths = op("Add", canvas.lengths, op("ReduceMax", total, constant([1]), keepdims=0))
    inside = positions_below(piece, canvas.ids, lengths)
    background = op("Where", inside, constant(plan.placeholder_token_id), constant(plan.pad_token_id))
    valid = positions_below(piece, canvas.ids, canvas.lengths)
    return EditedCanvas(place(piece, canvas.ids, positions, valid, background), lengths)


def fill_placeholders(piece: Piece, logits: ir.Value, canvas: EditedCanvas, plan: EditPlan) -> EditedCanvas:
    """Put the likeliest token at every placeholder; placeholder, begin, end and padding are never chosen.

    Args:
        piece: Where the nodes go.
        logits: `[batch, canvas_length, vocab]`.
        canvas: Before.
        plan: Its special tokens.
    """
    op, constant = piece.op, piece.constant
    barred = (plan.placeholder_token_id, plan.bos_token_id, plan.eos_token_id, plan.pad_token_id)
    chosen = op("ArgMax", without_tokens(piece, logits, barred), axis=-1, keepdims=0, select_last_index=0)
    open_ = op("Equal", canvas.ids, constant(plan.placeholder_token_id))
    open_ = op("And", open_, positions_below(piece, canvas.ids, canvas.lengths))
    return EditedCanvas(op("Where", open_, chosen, canvas.ids), op("Identity", canvas.lengths))
