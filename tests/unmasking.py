"""Unmasking in plain PyTorch, written from the papers: which positions each round fills, and with what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, floor, pi

import numpy as np
import torch
from torch import Tensor

from ptgc.graphs.canvas.uniforms import uniforms
from ptgc.spec.canvas import CanvasPlan, CanvasStop, ConfidenceOf, PolicyKind, PolicyPlan, Schedule
from tests.block_diffusion import tiny_block_diffusion
from tests.other_models import tiny_bert

MASK = 3
INFILLED = [[5, MASK, 7, MASK, MASK, 30, MASK], [8, MASK, MASK, 14], [9, MASK, 11, *[MASK] * 9, 12, MASK]]


def _plan(
    kind: PolicyKind,
    schedule: Schedule,
    threshold: float | None = None,
    num_steps: int = 6,
    block_length: int = 0,
    *,
    sampled: bool = False,
) -> CanvasPlan:
    policy = PolicyPlan(kind, threshold, sampled, ConfidenceOf.SAMPLED if sampled else ConfidenceOf.MODEL)
    return CanvasPlan(MASK, num_steps, block_length, policy, schedule=schedule, stop=CanvasStop.EOS)


PLANS = {
    "confidence": _plan(PolicyKind.CONFIDENCE, Schedule.COSINE, sampled=True),
    "factor": _plan(PolicyKind.FACTOR, Schedule.LINEAR, 1.6, num_steps=12, block_length=5),
    "entropy": _plan(PolicyKind.ENTROPY, Schedule.COSINE, 2.0, num_steps=8),
    "margin": _plan(PolicyKind.MARGIN, Schedule.PER_BLOCK, 0.3, num_steps=3, block_length=4),
    "random": _plan(PolicyKind.RANDOM, Schedule.LINEAR, num_steps=5),
    "sequential": _plan(PolicyKind.SEQUENTIAL, Schedule.PER_BLOCK, num_steps=2, block_length=3),
}

Logits = Callable[[Tensor], Tensor]
Rounds = list[dict[int, int]]
"""The tokens that each round fills, by position."""


@torch.no_grad()
def bert_logits(text: Tensor) -> Tensor:
    """Logits of every position `[length, vocab]`."""
    logits: Tensor = tiny_bert()(input_ids=text[None]).logits[0]
    return logits


@torch.no_grad()
def llama_logits(text: Tensor) -> Tensor:
    """The same of a language model whose positions all see each other."""
    mask = torch.ones(1, 1, len(text), len(text), dtype=torch.bool)
    logits: Tensor = tiny_block_diffusion()(input_ids=text[None], attention_mask=mask, use_cache=False).logits[0]
    return logits


def unmask(logits_of: Logits, given: Sequence[int], plan: CanvasPlan, seed: int = 0) -> Rounds:
    """What each round fills without sampling; blocks begin at the first mask."""
    text, rounds = torch.tensor(given), Rounds()
    places = (text == plan.mask_token_id).nonzero().flatten().tolist()
    length = plan.block_length or places[-1] + 1 - places[0]
    starts = range(places[0], places[-1] + 1, length)
    most = plan.num_steps if plan.schedule is Schedule.PER_BLOCK else max(1, plan.num_steps // len(starts))
    for start in starts:
        block = [at for at in places if start <= at < start + length]
        left = block
        for done in range(most):
            if not left:
                break
            p = _probabilities(logits_of(text), plan)
            order = _order(p, left, plan, seed, len(rounds))
            count = {
                Schedule.LINEAR: -(-len(left) // (most - done)),
                Schedule.COSINE: max(1, len(left) - floor(len(block) * cos(pi / 2 * (done + 1) / most))),
                Schedule.PER_BLOCK: length // most + (done < length % most),
            }[plan.schedule]
            filled = [*order[:count], *(at for at in _added(p, order, plan) if at not in order[:count])]
            rounds.append({at: int(p[at].argmax()) for at in sorted(filled)})
            for at, token in rounds[-1].items():
                text[at] = token
            left = [at for at in left if at not in filled]
    return rounds


def filled(given: Sequence[int], rounds: Rounds) -> list[int]:
    """The whole text after these rounds."""
    text = list(given)
    for one in rounds:
        for at, token in one.items():
            text[at] = token
    return text


def likeliest(logits_of: Logits, given: Sequence[int], plan: CanvasPlan) -> list[float]:
    """The probability of every position's likeliest token."""
    best: list[float] = _probabilities(logits_of(torch.tensor(given)), plan).amax(-1).tolist()
    return best


def _probabilities(logits: Tensor, plan: CanvasPlan) -> Tensor:
    logits = torch.cat([logits[:1], logits[:-1]]) if plan.shift else logits.clone()
    logits[:, plan.mask_token_id] = -torch.inf
    return logits.float().softmax(-1)


def _order(p: Tensor, left: list[int], plan: CanvasPlan, seed: int, number: int) -> list[int]:
    """The masked positions, the first to be filled first."""
    best, second = p.topk(2).values.T
    numbers = torch.from_numpy(uniforms(seed, np.arange(len(p)), number))[:, 1]
    score = {
        PolicyKind.CONFIDENCE: best,
        PolicyKind.FACTOR: best,
        PolicyKind.ENTROPY: -torch.special.entr(p).sum(-1),
        PolicyKind.MARGIN: best - second,
        PolicyKind.RANDOM: numbers,
        PolicyKind.SEQUENTIAL: -torch.arange(len(p)).float(),
    }[plan.policy.kind]
    return sorted(left, key=lambda at: -float(score[at]))


def _added(p: Tensor, order: list[int], plan: CanvasPlan) -> list[int]:
    """The positions that the threshold fills."""
    threshold = plan.policy.threshold
    if threshold is None:
        return []
    best, second = p.topk(2).values.T
    if plan.policy.kind is PolicyKind.MARGIN:
        return [at for at in order if best[at] - second[at] > threshold]
    if plan.policy.kind is PolicyKind.FACTOR:
        return [at for rank, at in enumerate(order) if best[at] > 1 - threshold / (rank + 2)]
    if plan.policy.kind is PolicyKind.ENTROPY:
        entropies = torch.special.entr(p[order]).sum(-1)
        return [at for at, before in zip(order, entropies.cumsum(0) - entropies, strict=True) if before <= threshold]
    return [at for at in order if best[at] > threshold]
