"""The meaning of `choose` in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptgc.graphs.canvas.scores import LEAST_LOG, LEAST_SCORE
from ptgc.spec import ports
from ptgc.spec.canvas import THRESHOLDS, CanvasPlan, ConfidenceOf, PolicyKind, PolicyPlan

Float = NDArray[np.floating[Any]]
Int = NDArray[np.int64]
Values = dict[str, NDArray[Any]]
OwnScores = Callable[..., tuple[NDArray[Any], NDArray[Any] | None]]
"""A policy of one's own: from probabilities, tokens, canvas_mask, step and threshold to scores and what it adds."""


def choose(logits: Float, ids: Int, given: Values, plan: CanvasPlan, own: OwnScores | None = None) -> Values:
    """See `graphs.canvas.choose.choose`; the outputs by port name."""
    logits = logits.astype(np.float32)
    logits[..., plan.mask_token_id] = -np.inf
    tokens, confidence, scores, more = _candidates(logits, plan.policy, given, own)
    ids, mask = ids.copy(), given[ports.CANVAS_MASK.name].copy()
    for b in range(len(ids)):
        order = sorted(np.flatnonzero(mask[b]), key=lambda t: (-scores[b, t], t))
        bound = given[ports.THRESHOLD.name][b] if plan.policy.kind in THRESHOLDS else None
        entropy = np.float32(0)
        for rank, t in enumerate(order):
            if own is not None:
                added = more is not None and bool(more[b, t])
            else:
                added = bound is not None and _is_added(
                    plan.policy.kind, rank, confidence[b, t], scores[b, t], entropy, bound
                )
            if rank < given[ports.STEP.name][b] or added:
                ids[b, t], mask[b, t] = tokens[b, t], False
            entropy -= scores[b, t]
    names = (ports.OUTPUT_IDS.name, ports.NUM_MASKED.name, ports.CONFIDENCE.name)
    return dict(zip(names, (ids, mask.sum(axis=1), confidence), strict=True))


def _candidates(
    logits: Float, policy: PolicyPlan, given: Values, own: OwnScores | None
) -> tuple[Int, Float, Float, NDArray[Any] | None]:
    """Token, confidence and score of every position, and what a policy of one's own adds."""
    p, tokens = _softmax(logits), logits.argmax(axis=-1)
    if policy.sampled:
        temperature = given[ports.TEMPERATURE.name][:, None, None]
        q = _softmax(logits / np.where(temperature > 0, temperature, np.float32(1)))
        cumulative = q.cumsum(axis=-1, dtype=np.float32)
        drawn = (cumulative > given[ports.UNIFORMS.name][..., :1] * cumulative[..., -1:]).argmax(axis=-1)
        tokens = np.where(temperature[..., 0] > 0, drawn, tokens)
        p = q if policy.confidence_of is ConfidenceOf.SAMPLED else p
    confidence = np.take_along_axis(p, tokens[..., None], axis=-1)[..., 0]
    if own is not None:
        names = (ports.CANVAS_MASK.name, ports.STEP.name, ports.THRESHOLD.name)
        scores, added = own(p, tokens, *(given[name] for name in names))
        return tokens, confidence, np.where(scores > LEAST_SCORE, scores, np.float32(LEAST_SCORE)), added
    return tokens, confidence, _score(p, confidence, policy, given), None


def _score(p: Float, confidence: Float, policy: PolicyPlan, given: Values) -> Float:
    if policy.kind is PolicyKind.RANDOM:
        return given[ports.UNIFORMS.name][..., 1]
    if policy.kind is PolicyKind.SEQUENTIAL:
        return np.zeros_like(confidence)
    if policy.kind is PolicyKind.ENTROPY:
        with np.errstate(divide="ignore"):
            log_p = np.maximum(np.log(p), np.float32(LEAST_LOG))
        certainties: Float = (p * log_p).sum(axis=-1)
        return certainties
    if policy.kind is PolicyKind.MARGIN:
        ordered = np.sort(p, axis=-1)
        margins: Float = ordered[..., -1] - ordered[..., -2]
        return margins
    return confidence


def _is_added(
    kind: PolicyKind, rank: int, confidence: float, score: float, entropy: np.float32, threshold: float
) -> bool:
    """Whether the threshold adds a position; `entropy` is the sum of those ranked before it."""
    if kind is PolicyKind.FACTOR:
        return bool(np.float32(rank + 2) * (np.float32(1) - confidence) < threshold)
    if kind is PolicyKind.ENTROPY:
        return bool(entropy < threshold)
    return bool(score > threshold)


def _softmax(logits: Float) -> Float:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Float = weights / weights.sum(axis=-1, keepdims=True)
    return result
