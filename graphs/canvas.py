"""Pieces that choose which masked positions of a canvas are filled, and with what."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ptgc.graphs.piece import Piece
from ptgc.graphs.placement import columns_of


@dataclass(frozen=True)
class Columns:
    """The positions whose tokens a round may decide, and how many it fills."""

    ids: ir.Value  # int64 [batch, columns], their tokens
    mask: ir.Value  # bool [batch, columns]: to be filled
    step: ir.Value  # int64 [batch]
    threshold: ir.Value  # float32 [batch]


@dataclass(frozen=True)
class FilledColumns:
    """The same positions after a round."""

    output_ids: ir.Value  # int64 [batch, columns]
    num_masked: ir.Value  # int64 [batch]: how many are still to be filled
    confidence: ir.Value  # float32 [batch, columns]


def without_tokens(piece: Piece, logits: ir.Value, token_ids: tuple[int, ...]) -> ir.Value:
    """The logits in float32, with minus infinity for some tokens: [..., vocab]."""
    op, constant = piece.op, piece.constant
    logits = op("Cast", logits, to=ir.DataType.FLOAT)
    vocab = op("Squeeze", op("Shape", logits, start=-1))
    ids = op("Range", constant(0), vocab, constant(1))
    barred = op("Equal", ids, constant(token_ids[0]))
    for token in token_ids[1:]:
        barred = op("Or", barred, op("Equal", ids, constant(token)))
    return op("Where", barred, constant(float("-inf"), ir.DataType.FLOAT), logits)


def fill_most_confident(piece: Piece, logits: ir.Value, columns: Columns, mask_token_id: int) -> FilledColumns:
    """Fill `step` masked positions, the most confident first, and all those above the threshold.

    Confidence is the softmax probability of the most likely token, with the mask token left out (MaskGIT, arXiv
    2202.04200, section 3.2; the mask has probability 0 as in MDLM, arXiv 2406.07524, section 3.2.3). Of equally
    confident positions the lower one comes first.

    Args:
        piece: Where the nodes go.
        logits: `[batch, columns, vocab]`.
        columns: The round.
        mask_token_id: Never chosen.
    """
    op = piece.op
    logits = without_tokens(piece, logits, (mask_token_id,))
    chosen = op("ArgMax", logits, axis=-1, keepdims=0, select_last_index=0)
    last = piece.constant([-1])
    confidence = op("ReduceMax", op("Softmax", logits, axis=-1), last, keepdims=0)
    rank = _rank(piece, op("Where", columns.mask, confidence, piece.constant(-1.0, ir.DataType.FLOAT)))
    first = op("Less", rank, op("Unsqueeze", columns.step, last))
    above = op("Greater", confidence, op("Unsqueeze", columns.threshold, last))
    filled = op("And", columns.mask, op("Or", first, above))
    left = op("Cast", op("And", columns.mask, op("Not", filled)), to=ir.DataType.INT64)
    return FilledColumns(
        output_ids=op("Where", filled, chosen, columns.ids),
        num_masked=op("ReduceSum", left, last, keepdims=0),
        confidence=confidence,
    )


def _rank(piece: Piece, score: ir.Value) -> ir.Value:
    """How many positions rank before each one, the largest score first: int64 [batch, columns] from the same shape.

    Pairs are counted, which is exact for any number of columns; TensorRT's TopK accepts at most 3840.
    """
    op, constant = piece.op, piece.constant
    mine, other = op("Unsqueeze", score, constant([2])), op("Unsqueeze", score, constant([1]))
    columns = columns_of(piece, score)
    earlier = op("Less", columns, op("Unsqueeze", columns, constant([1])))  # [mine, other]
    ahead = op("Or", op("Greater", other, mine), op("And", op("Equal", other, mine), earlier))
    return op("ReduceSum", op("Cast", ahead, to=ir.DataType.INT64), constant([2]), keepdims=0)
