"""Pieces that give every position of a canvas a token, a score and a rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from ptgc.graphs.piece import Piece
from ptgc.graphs.placement import columns_of
from ptgc.graphs.selection import argmax
from ptgc.graphs.splice import splice
from ptgc.spec import ports
from ptgc.spec.canvas import ConfidenceOf, PolicyKind, PolicyPlan

LEAST_LOG = -1e4
"""Stands for the logarithm of a probability of 0, so that the product of both is 0."""
LEAST_SCORE = -3e38
"""Stands for scores of minus infinity, which positions have that are not masked, and for NaN."""


@dataclass(frozen=True)
class Candidates:
    """A token for every position."""

    token_ids: ir.Value  # int64 [batch, columns]
    confidence: ir.Value  # float32 [batch, columns]: their probabilities
    score: ir.Value  # float32 [batch, columns]: the largest is filled first
    added: ir.Value | None = None  # bool [batch, columns]: what a policy of one's own fills as well


@dataclass(frozen=True)
class Order:
    """The order in which masked positions are filled."""

    ahead: ir.Value  # bool [batch, columns, columns]: [mine, other], whether the other comes first
    rank: ir.Value  # int64 [batch, columns]: how many do


def candidates(
    piece: Piece, logits: ir.Value, policy: PolicyPlan, given: Mapping[str, ir.Value], own: ir.Model | None = None
) -> Candidates:
    """Choose a token for every position, the likeliest or a sample, and score it.

    Args:
        piece: Where the nodes go.
        logits: float32 `[batch, columns, vocab]`.
        policy: How tokens are chosen and scored.
        given: The inputs of the policy by port name.
        own: The graph of a policy of one's own.
    """
    op, last = piece.op, piece.constant([-1])
    p = op("Softmax", logits, axis=-1)
    token_ids = argmax(piece, logits)
    if not policy.sampled:
        confidence = op("ReduceMax", p, last, keepdims=0)
        return _scored(piece, p, Candidates(token_ids, confidence, confidence), policy, given, own)
    temperature = op("Unsqueeze", given[ports.TEMPERATURE.name], piece.constant([1, 2]))
    zero, one = (piece.constant(value, ir.DataType.FLOAT) for value in (0.0, 1.0))
    samples = op("Greater", temperature, zero)
    q = op("Softmax", op("Div", logits, op("Where", samples, temperature, one)), axis=-1)
    drawn = _draw(piece, q, _uniforms(piece, given, 0))
    token_ids = op("Where", op("Squeeze", samples, last), drawn, token_ids)
    p = q if policy.confidence_of is ConfidenceOf.SAMPLED else p
    confidence = op("Squeeze", op("GatherElements", p, op("Unsqueeze", token_ids, last), axis=-1), last)
    return _scored(piece, p, Candidates(token_ids, confidence, confidence), policy, given, own)


def order_of(piece: Piece, found: Candidates, policy: PolicyPlan, mask: ir.Value) -> Order:
    """The order of the masked positions; all others come behind them.

    Pairs are counted, which is exact for any number of columns; TensorRT's TopK accepts at most 3840.
    """
    op, constant = piece.op, piece.constant
    zero, lowest = (constant(value, ir.DataType.FLOAT) for value in (0.0, float("-inf")))
    in_order = policy.kind is PolicyKind.SEQUENTIAL
    score = op("Where", mask, zero if in_order else found.score, lowest)
    mine, other = op("Unsqueeze", score, constant([2])), op("Unsqueeze", score, constant([1]))
    columns = columns_of(piece, score)
    earlier = op("Less", columns, op("Unsqueeze", columns, constant([1])))  # [mine, other]
    ahead = op("Or", op("Greater", other, mine), op("And", op("Equal", other, mine), earlier))
    rank = op("ReduceSum", op("Cast", ahead, to=ir.DataType.INT64), constant([2]), keepdims=0)
    return Order(ahead, rank)


def _scored(
    piece: Piece,
    p: ir.Value,
    found: Candidates,
    policy: PolicyPlan,
    given: Mapping[str, ir.Value],
    own: ir.Model | None,
) -> Candidates:
    """The candidates with what positions are ranked by."""
    if own is None:
        return replace(found, score=_score(piece, p, found, policy, given))
    names = (ports.CANVAS_MASK.name, ports.STEP.name, ports.THRESHOLD.name)
    score, *added = splice(piece, own, (p, found.token_ids, *(given[name] for name in names)))
    least = piece.constant(LEAST_SCORE, ir.DataType.FLOAT)
    score = piece.op("Where", piece.op("Greater", score, least), score, least)
    return replace(found, score=score, added=added[0] if added else None)


def _score(piece: Piece, p: ir.Value, found: Candidates, policy: PolicyPlan, given: Mapping[str, ir.Value]) -> ir.Value:
    """What positions are ranked by: float32 [batch, columns]."""
    op, last = piece.op, piece.constant([-1])
    if policy.kind is PolicyKind.RANDOM:
        return _uniforms(piece, given, 1)
    if policy.kind is PolicyKind.ENTROPY:
        log_p = op("Max", op("Log", p), piece.constant(LEAST_LOG, ir.DataType.FLOAT))
        return op("ReduceSum", op("Mul", p, log_p), last, keepdims=0)
    if policy.kind is PolicyKind.MARGIN:
        vocab = op("Squeeze", op("Shape", p, start=-1))
        tokens = op("Range", piece.constant(0), vocab, piece.constant(1))
        best = argmax(piece, p) if policy.sampled else found.token_ids
        is_best = op("Equal", tokens, op("Unsqueeze", best, last))
        second = op("ReduceMax", op("Where", is_best, piece.constant(0.0, ir.DataType.FLOAT), p), last, keepdims=0)
        return op("Sub", op("ReduceMax", p, last, keepdims=0), second)
    return found.confidence


def _draw(piece: Piece, p: ir.Value, uniform: ir.Value) -> ir.Value:
    """A token of every position by inversion: the first whose cumulative probability exceeds the uniform number.

    The number is a multiple of 2^-23 below 1, so that its product with the sum of p, which rounding makes a little more
    or less than 1, is below that sum.
    """
    op, last = piece.op, piece.constant([-1])
    cumulative = op("CumSum", p, piece.constant(2))
    total = op("ReduceMax", cumulative, last, keepdims=1)
    beyond = op("Greater", cumulative, op("Mul", op("Unsqueeze", uniform, last), total))
    return argmax(piece, op("Cast", beyond, to=ir.DataType.FLOAT))


def _uniforms(piece: Piece, given: Mapping[str, ir.Value], which: int) -> ir.Value:
    """The first or second uniform number of every position: float32 [batch, columns]."""
    return piece.op("Gather", given[ports.UNIFORMS.name], piece.constant(which), axis=2)
