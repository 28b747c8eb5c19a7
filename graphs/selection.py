"""Choosing tokens from logits inside the graph."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ptgc.graphs.piece import Piece
from ptgc.spec.tree import TreeSpec


def argmax(piece: Piece, logits: ir.Value) -> ir.Value:
    """The index of the largest logit, among equals the lowest: int64 [batch, rows] from [batch, rows, vocab]."""
    return piece.op("ArgMax", logits, axis=-1, keepdims=0, select_last_index=0)


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


def top_ids(piece: Piece, logits: ir.Value, count: int) -> ir.Value:
    """The indices of the largest logits, among equals the lowest first: int64 [.., count] from [.., vocab]."""
    return piece.op_outputs("TopK", logits, piece.constant([count]), outputs=2, axis=-1)[1]


def drafts_of_heads(
    piece: Piece, logits: ir.Value, tree: TreeSpec, drafted_ids: Sequence[int] | None = None
) -> ir.Value:
    """The draft of every node of a tree: head d gives the tokens at depth d, more likely siblings first.

    Of equally likely tokens the first in the order of the logits is the more likely one.

    Args:
        piece: Where the nodes go.
        logits: `[batch, heads, vocab]`, with at least as many heads as the depth of the tree.
        tree: The tree to draft.
        drafted_ids: The token of each logit, if it is not its index.

    Returns:
        int64 `[batch, drafts]`.
    """
    most = max(tree.ranks) + 1
    _, best = piece.op_outputs("TopK", logits, piece.constant([most]), outputs=2, axis=-1)  # [batch, heads, most]
    flat = piece.op("Reshape", best, piece.constant([0, -1]))
    places = [(depth - 1) * most + rank for depth, rank in zip(tree.depths[1:], tree.ranks[1:], strict=True)]
    drafts = piece.op("Gather", flat, piece.constant(places), axis=1)
    return drafts if drafted_ids is None else piece.op("Gather", piece.constant(list(drafted_ids)), drafts)
