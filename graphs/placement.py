"""Pieces that count along a row and move tokens within it, by comparing pairs of columns.

Pairs have static shapes and need neither scatter nor sorting, whose order differs between backends. A row of n columns
takes n * n integers, which is little beside the attention before it.
"""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import Piece


def columns_of(piece: Piece, row: ir.Value) -> ir.Value:
    """0, 1, ... for the columns of `row` [batch, columns]: int64 [columns]."""
    op, constant = piece.op, piece.constant
    return op("Range", constant(0), op("Squeeze", op("Shape", row, start=1, end=2)), constant(1))


def positions_below(piece: Piece, like: ir.Value, lengths: ir.Value) -> ir.Value:
    """Which positions are below the length: bool [batch, columns] for `like` [batch, columns], lengths [batch]."""
    return piece.op("Less", columns_of(piece, like), piece.op("Unsqueeze", lengths, piece.constant([1])))


def sum_through(piece: Piece, values: ir.Value) -> ir.Value:
    """The cumulative sum along columns: int64 [batch, columns] from the same shape."""
    op, constant = piece.op, piece.constant
    columns = columns_of(piece, values)
    counted = op("LessOrEqual", columns, op("Unsqueeze", columns, constant([1])))  # [of, up to]
    terms = op("Where", counted, op("Unsqueeze", values, constant([1])), constant(0))
    return op("ReduceSum", terms, constant([2]), keepdims=0)


def count(piece: Piece, flags: ir.Value) -> ir.Value:
    """How many are true: int64 [batch] from bool [batch, columns]."""
    op = piece.op
    return op("ReduceSum", op("Cast", flags, to=ir.DataType.INT64), piece.constant([1]), keepdims=0)


def place(piece: Piece, ids: ir.Value, positions: ir.Value, valid: ir.Value, background: ir.Value) -> ir.Value:
    """Put tokens at new positions.

    Args:
        piece: Where the nodes go.
        ids: int64 `[batch, columns]`.
        positions: int64 `[batch, columns]`, the new position of each; distinct for valid ones.
        valid: bool `[batch, columns]`, which tokens are placed.
        background: int64 `[batch, columns]`, used for positions that no token takes.
    """
    op, constant = piece.op, piece.constant
    here = op("Unsqueeze", columns_of(piece, ids), constant([1]))  # [to, 1]
    comes = op("Equal", op("Unsqueeze", positions, constant([1])), here)
    comes = op("And", comes, op("Unsqueeze", valid, constant([1])))  # [batch, to, from]
    moved = op("Where", comes, op("Unsqueeze", ids, constant([1])), constant(0))
    arrivals = op("ReduceSum", op("Cast", comes, to=ir.DataType.INT64), constant([2]), keepdims=0)
    moved = op("ReduceSum", moved, constant([2]), keepdims=0)
    return op("Where", op("Greater", arrivals, constant(0)), moved, background)


def keep_only(piece: Piece, ids: ir.Value, keep: ir.Value, fill_token_id: int) -> tuple[ir.Value, ir.Value]:
    """Keep some tokens and close the gaps.

    Args:
        piece: Where the nodes go.
        ids: int64 `[batch, columns]`.
        keep: bool `[batch, columns]`.
        fill_token_id: Fills the columns after the last kept token.

    Returns:
        The tokens `[batch, columns]` and their number `[batch]`.
    """
    op, constant = piece.op, piece.constant
    positions = op("Sub", sum_through(piece, op("Cast", keep, to=ir.DataType.INT64)), constant(1))
    background = op("Expand", constant(fill_token_id), op("Shape", ids))
    return place(piece, ids, positions, keep, background), count(piece, keep)
