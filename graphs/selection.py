"""What is read off the logits inside the graph."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import Piece


def argmax(piece: Piece, logits: ir.Value) -> ir.Value:
    """The index of the largest logit, the lowest of equal ones: int64 [batch, rows] of [batch, rows, vocab]."""
    return piece.op("ArgMax", logits, axis=-1, keepdims=0, select_last_index=0)
