"""Pieces that edit a canvas.

Deleting tokens, inserting placeholders and filling them: Gu et al., arXiv 1905.11006, section 3.
Inserting tokens: Stern et al., arXiv 1902.03249, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ptgc.graphs.piece import Piece
from ptgc.graphs.placement import columns_of, keep_only, place, positions_below, sum_through
from ptgc.graphs.selection import without_tokens
from ptgc.spec.edit import EditPlan


@dataclass(frozen=True)
class EditedCanvas:
    """A canvas and the length of its text."""

    ids: ir.Value  # int64 [batch, canvas_length]
    lengths: ir.Value  # int64 [batch]


def delete_tokens(piece: Piece, scores: ir.Value, canvas: EditedCanvas, plan: EditPlan) -> EditedCanvas:
    """Remove the tokens that score higher for deletion (index 1) than for keeping; begin and end stay.

    Args:
        piece: Where the nodes go.
        scores: `[batch, canvas_length, 2]`.
        canvas: The canvas before the operation.
        plan: Its special tokens.
    """
    op, constant = piece.op, piece.constant
    stays = op("Equal", op("ArgMax", scores, axis=-1, keepdims=0, select_last_index=0), constant(0))
    for token in (plan.bos_token_id, plan.eos_token_id):
        stays = op("Or", stays, op("Equal", canvas.ids, constant(token)))
    keep = op("And", stays, positions_below(piece, canvas.ids, canvas.lengths))
    return EditedCanvas(*keep_only(piece, canvas.ids, keep, plan.pad_token_id))


def insert_placeholders(piece: Piece, scores: ir.Value, canvas: EditedCanvas, plan: EditPlan) -> EditedCanvas:
    """Insert placeholders after every token but the last, as many as score best; from the front while there is room.

    Args:
        piece: Where the nodes go.
        scores: `[batch, canvas_length, most + 1]` for each number, starting with none.
        canvas: The canvas before the operation.
        plan: Its special tokens.
    """
    op, constant = piece.op, piece.constant
    assert plan.placeholder_token_id is not None
    numbers = op("ArgMax", scores, axis=-1, keepdims=0, select_last_index=0)
    room = _make_room(piece, numbers, canvas)
    inside = positions_below(piece, canvas.ids, room.lengths)
    background = op("Where", inside, constant(plan.placeholder_token_id), constant(plan.pad_token_id))
    return EditedCanvas(_spread(piece, canvas, room, background), room.lengths)


def insert_tokens(piece: Piece, logits: ir.Value, canvas: EditedCanvas, plan: EditPlan) -> EditedCanvas:
    """Insert the most likely token after every token but the last, none if it is the stop token; room as above.

    Begin, end and padding are never inserted.

    Args:
        piece: Where the nodes go.
        logits: `[batch, canvas_length, vocab]` for the token to insert after each.
        canvas: The canvas before the operation.
        plan: Its special tokens.
    """
    op, constant = piece.op, piece.constant
    assert plan.stop_token_id is not None
    chosen = op("ArgMax", without_tokens(piece, logits, never_inserted(plan)), axis=-1, keepdims=0, select_last_index=0)
    wanted = op("Not", op("Equal", chosen, constant(plan.stop_token_id)))
    room = _make_room(piece, op("Cast", wanted, to=ir.DataType.INT64), canvas)
    behind = op("Add", room.positions, constant(1))
    padding = op("Expand", constant(plan.pad_token_id), op("Shape", canvas.ids))
    return EditedCanvas(
        _spread(piece, canvas, room, place(piece, chosen, behind, room.any_behind, padding)), room.lengths
    )


def never_inserted(plan: EditPlan) -> tuple[int, ...]:
    """Begin, end and padding, except one that serves as the stop token."""
    frame = (plan.bos_token_id, plan.eos_token_id, plan.pad_token_id)
    return tuple(token for token in frame if token != plan.stop_token_id)


@dataclass(frozen=True)
class _Room:
    """New positions of the tokens of a canvas, with room for inserted ones."""

    positions: ir.Value  # int64 [batch, canvas_length]
    any_behind: ir.Value  # bool [batch, canvas_length]: whether anything is inserted after the token
    lengths: ir.Value  # int64 [batch]


def _make_room(piece: Piece, numbers: ir.Value, canvas: EditedCanvas) -> _Room:
    """Room for `numbers` [batch, canvas_length] tokens after every token but the last, as far as the canvas allows."""
    op, constant = piece.op, piece.constant
    slots = positions_below(piece, canvas.ids, op("Sub", canvas.lengths, constant(1)))
    total = sum_through(piece, op("Where", slots, numbers, constant(0)))
    size = op("Shape", canvas.ids, start=1, end=2)
    total = op("Min", total, op("Unsqueeze", op("Sub", size, canvas.lengths), constant([1])))
    none = op("Expand", constant(0), op("Shape", op("Unsqueeze", canvas.lengths, constant([1]))))
    before = op("Concat", none, op("Slice", total, constant([0]), constant([-1]), constant([1])), axis=1)
    return _Room(
        positions=op("Add", columns_of(piece, canvas.ids), before),
        any_behind=op("Greater", total, before),
        lengths=op("Add", canvas.lengths, op("ReduceMax", total, constant([1]), keepdims=0)),
    )


def _spread(piece: Piece, canvas: EditedCanvas, room: _Room, background: ir.Value) -> ir.Value:
    """The tokens of a canvas at their new positions; the gaps are taken from `background`."""
    valid = positions_below(piece, canvas.ids, canvas.lengths)
    return place(piece, canvas.ids, room.positions, valid, background)


def fill_placeholders(piece: Piece, logits: ir.Value, canvas: EditedCanvas, plan: EditPlan) -> EditedCanvas:
    """Replace every placeholder by its most likely token; placeholder, begin, end and padding are never chosen.

    Args:
        piece: Where the nodes go.
        logits: `[batch, canvas_length, vocab]`.
        canvas: The canvas before the operation.
        plan: Its special tokens.
    """
    op, constant = piece.op, piece.constant
    assert plan.placeholder_token_id is not None
    barred = (plan.placeholder_token_id, plan.bos_token_id, plan.eos_token_id, plan.pad_token_id)
    chosen = op("ArgMax", without_tokens(piece, logits, barred), axis=-1, keepdims=0, select_last_index=0)
    open_ = op("Equal", canvas.ids, constant(plan.placeholder_token_id))
    open_ = op("And", open_, positions_below(piece, canvas.ids, canvas.lengths))
    return EditedCanvas(op("Where", open_, chosen, canvas.ids), op("Identity", canvas.lengths))
