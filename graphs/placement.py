"""Pieces that count along a row and move tokens within it, by pairs of columns.

Pairs need neither scatter nor sorting, whose order is not the same on every backend, and have static shapes. A row of n
columns takes n * n integers, which is little beside the attention that came before.
"""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import Piece


def columns_of(piece: Piece, row: ir.Value) -> ir.Value:
    """0, 1, ... for the columns of `row` [batch, columns]: int64 [columns]."""
    op, constant = piece.op, piece.constant
    return op("Range", constant(0), op("Squeeze", op("Shape", row, start=1, end=2)), constant(1))


def positions_below(piece: Piece, like: ir.Value, lengths: ir.Value) -> ir.Value:
    """Which positions lie below the length: bool [batch, columns] for `like` [batch, columns], lengths [batch]."""
    return piece.op("Less", columns_of(piece, like), piece.op("Unsqueeze", lengths, piece.constant([1])))


def sum_through(piece: Piece, values: ir.Value) -> ir.Value:
    """The sum of every column and those before it: int64 [batch, columns] of the same."""
    op, constant = piece.op, piece.constant
    columns = columns_of(piece, values)
    counted = op("LessOrEqual", columns, op("Unsqueeze", columns, constant([1])))  # [of, up to]
    terms = op("Where", counted, op("Unsqueeze", values, constant([1])), constant(0))
    return op("ReduceSum", terms, constant([2]), keepdims=0)


def count(piece: Piece, flags: ir.Value) -> ir.Value:
    """How many are true: int64 [batch] of bool [batch, columns]."""
    op = piece.op
    return op("ReduceSum", op("Cast", flags, to=ir.DataType.INT64), piece.constant([1]), keepdims=0)


def place(piece: Piece, ids: ir.Value, positions: ir.Value, valid: ir.Value, background: ir.Value) -> ir.Value:
    """Put tokens at new positions.

    Args:
        piece: Where the nodes go.
        ids: int64 `[batch, columns]`.
        positions: int64 `[batch, columns]`, where each goes; no two valid ones to the same.
        valid: bool `[batch, columns]`, which of them go anywhere.
        background: int64 `[batch, columns]`, what stands where none goes.
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
    """Close the gaps of what is not kept.

    Args:
        piece: Where the nodes go.
        ids: int64 `[batch, columns]`.
        keep: bool `[batch, columns]`.
        fill_token_id: Stands behind the end.

    Returns:
        The tokens `[batch, columns]` and how many they are `[batch]`.
    """
    op, constant = piece.op, piece.constant
    positions = op("Sub", sum_through(piece, op("Cast", keep, to=ir.DataType.INT64)), constant(1))
    background = op("Expand", constant(fill_token_id), op("Shape", ids))
    return place(piece, ids, positions, keep, background), count(piece, keep)
