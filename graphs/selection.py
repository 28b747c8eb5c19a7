"""What is read off the logits inside the graph: argmax and the largest few."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import Piece


def argmax(piece: Piece, logits: ir.Value) -> ir.Value:
    """The index of the largest logit, the lowest of equal ones: int64 [batch, rows] of [batch, rows, vocab]."""
    return piece.op("ArgMax", logits, axis=-1, keepdims=0, select_last_index=0)


def top_k(piece: Piece, logits: ir.Value, k: int) -> tuple[ir.Value, ir.Value]:
    """The `k` largest logits, descending, and their indices: both [batch, rows, k]."""
    values, indices = piece.op_outputs("TopK", logits, piece.constant([k]), outputs=2, axis=-1, largest=1, sorted=1)
    return values, indices
