"""The piece that chooses which masked positions of a canvas are filled, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from ptgc.graphs.canvas.scores import Candidates, Order, candidates, order_of
from ptgc.graphs.piece import Piece
from ptgc.graphs.selection import without_tokens
from ptgc.spec import ports
from ptgc.spec.canvas import THRESHOLDS, CanvasPlan, PolicyKind


@dataclass(frozen=True)
class FilledColumns:
    """The positions whose tokens a round may decide, after it."""

    output_ids: ir.Value  # int64 [batch, columns]
    num_masked: ir.Value  # int64 [batch]: how many are still to be filled
    confidence: ir.Value  # float32 [batch, columns]
    candidate_ids: ir.Value  # int64 [batch, columns]: the tokens chosen for them
    candidate_ranks: ir.Value  # int64 [batch, columns]: their order among those that were masked, from 0

    @property
    def values(self) -> tuple[ir.Value, ...]:
        """All of them, in the order of a denoiser's outputs."""
        return (self.output_ids, self.num_masked, self.confidence, self.candidate_ids, self.candidate_ranks)


def choose(
    piece: Piece,
    logits: ir.Value,
    ids: ir.Value,
    given: Mapping[str, ir.Value],
    plan: CanvasPlan,
    own: ir.Model | None = None,
) -> FilledColumns:
    """Fill `step` masked positions, the first in the policy's order, and those that its threshold adds.

    The mask token has probability 0 (MDLM, arXiv 2406.07524, section 3.2.3). Of equal positions the lower one comes
    first.

    Args:
        piece: Where the nodes go.
        logits: `[batch, columns, vocab]`.
        ids: The tokens before, int64 `[batch, columns]`.
        given: The inputs of the policy by port name; see `policy_inputs`.
        plan: The policy, and the mask token.
        own: The graph of a policy of one's own; see docs/adding-a-model.md.
    """
    op, last = piece.op, piece.constant([-1])
    mask = given[ports.CANVAS_MASK.name]
    logits = without_tokens(piece, logits, (plan.mask_token_id,))
    found = candidates(piece, logits, plan.policy, given, own)
    order = order_of(piece, found, plan.policy, mask)
    filled = op("Less", order.rank, op("Unsqueeze", given[ports.STEP.name], last))
    if found.added is not None:
        filled = op("Or", filled, found.added)
    elif own is None and plan.policy.kind in THRESHOLDS:
        threshold = op("Unsqueeze", given[ports.THRESHOLD.name], last)
        filled = op("Or", filled, _added(piece, plan.policy.kind, found, order, threshold))
    filled = op("And", mask, filled)
    left = op("Cast", op("And", mask, op("Not", filled)), to=ir.DataType.INT64)
    return FilledColumns(
        output_ids=op("Where", filled, found.token_ids, ids),
        num_masked=op("ReduceSum", left, last, keepdims=0),
        confidence=found.confidence,
        candidate_ids=found.token_ids,
        candidate_ranks=order.rank,
    )


def _added(piece: Piece, kind: PolicyKind, found: Candidates, order: Order, threshold: ir.Value) -> ir.Value:
    """Which positions the threshold [batch, 1] adds: bool [batch, columns]."""
    op, constant = piece.op, piece.constant
    if kind is PolicyKind.FACTOR:
        doubt = op("Sub", constant(1.0, ir.DataType.FLOAT), found.confidence)
        rank = op("Cast", op("Add", order.rank, constant(2)), to=ir.DataType.FLOAT)
        return op("Less", op("Mul", rank, doubt), threshold)
    if kind is PolicyKind.ENTROPY:
        entropy = op("Unsqueeze", op("Neg", found.score), constant([1]))  # [batch, 1, other]
        before = op("Where", order.ahead, entropy, constant(0.0, ir.DataType.FLOAT))
        return op("Less", op("ReduceSum", before, constant([2]), keepdims=0), threshold)
    return op("Greater", found.score, threshold)
