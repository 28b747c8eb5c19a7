"""jacobi: the model's answers to the last round's drafts are the next drafts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, Strategy
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class JacobiDrafter(DrafterPlan):
    """Guesses that the target corrects round by round, until they no longer change."""

    kind: ClassVar[str] = "jacobi"


@dataclass(frozen=True)
class JacobiOptions:
    """How far ahead guesses reach."""

    num_draft_tokens: DraftTokens = 7
    """Most draft tokens per round: the guesses that are corrected together."""


def jacobi(num_draft_tokens: int = JacobiOptions.num_draft_tokens) -> DecodePlan:
    """A chain of guesses, each round replaced by what the model says after each of them."""
    return DecodePlan(STRATEGY.name, drafter=JacobiDrafter(num_draft_tokens), tree=TreeSpec.chain(num_draft_tokens))


def _plan(options: JacobiOptions, _facts: CheckpointFacts) -> DecodePlan:
    return jacobi(options.num_draft_tokens)


STRATEGY = Strategy(
    name="jacobi",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Jacobi decoding: drafts are the model's answers to the last round's drafts; for models trained for it.",
    source="Jacobi decoding, Santilli et al., arXiv 2305.10427, section 3; CLLM, arXiv 2403.00835",
    options=JacobiOptions,
    plan=_plan,
    drafter=JacobiDrafter,
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
