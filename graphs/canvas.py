"""Pieces that choose which masked positions of a canvas are filled, and with what."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ptgc.graphs.piece import Piece
from ptgc.graphs.placement import columns_of, positions_below


@dataclass(frozen=True)
class CanvasPorts:
    """The values that describe one round on a canvas."""

    input_ids: ir.Value  # int64 [batch, canvas_length]
    lengths: ir.Value  # int64 [batch]
    canvas_mask: ir.Value  # bool [batch, canvas_length]
    step: ir.Value  # int64 [batch]
    threshold: ir.Value  # float32 [batch]


@dataclass(frozen=True)
class FilledCanvas:
    """The canvas after a round."""

    output_ids: ir.Value  # int64 [batch, canvas_length]
    output_mask: ir.Value  # bool [batch, canvas_length]: still to be filled
    confidence: ir.Value  # float32 [batch, canvas_length]


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


def fill_most_confident(piece: Piece, logits: ir.Value, canvas: CanvasPorts, mask_token_id: int) -> FilledCanvas:
    """Fill `step` masked positions, the most confident first, and all those above the threshold.

    Confidence is the softmax probability of the most likely token, with the mask token left out (MaskGIT, arXiv
    2202.04200, section 3.2; the mask has probability 0 as in MDLM, arXiv 2406.07524, section 3.2.3). Of equally
    confident positions the lower one comes first.

    Args:
        piece: Where the nodes go.
        logits: `[batch, canvas_length, vocab]`.
        canvas: The round.
        mask_token_id: Never chosen.
    """
    op = piece.op
    logits = without_tokens(piece, logits, (mask_token_id,))
    chosen = op("ArgMax", logits, axis=-1, keepdims=0, select_last_index=0)
    last = piece.constant([-1])
    confidence = op("ReduceMax", op("Softmax", logits, axis=-1), last, keepdims=0)
    masked = op("And", canvas.canvas_mask, positions_below(piece, canvas.input_ids, canvas.lengths))
    rank = _rank(piece, op("Where", masked, confidence, piece.constant(-1.0, ir.DataType.FLOAT)))
    first = op("Less", rank, op("Unsqueeze", canvas.step, last))
    above = op("Greater", confidence, op("Unsqueeze", canvas.threshold, last))
    filled = op("And", masked, op("Or", first, above))
    return FilledCanvas(
        output_ids=op("Where", filled, chosen, canvas.input_ids),
        output_mask=op("And", canvas.canvas_mask, op("Not", filled)),
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
