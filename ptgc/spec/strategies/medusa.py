"""medusa: heads on the target's last hidden state draft, each head one token further ahead."""

from __future__ import annotations

from dataclasses import dataclass

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy
from ptgc.spec.strategies.heads import HeadsDrafter, HeadsOptions, heads_plan
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class MedusaOptions(HeadsOptions):
    """Which heads, and how their drafts are taken."""


def medusa(tree: TreeSpec, acceptance: AcceptanceRule = AcceptanceRule.MATCH) -> DecodePlan:
    """Every head guesses alone: siblings' children are the same tokens."""
    return heads_plan(STRATEGY.name, tree).accepting(acceptance)


def _plan(options: MedusaOptions, facts: CheckpointFacts) -> DecodePlan:
    return options.plan(STRATEGY.name, facts)


STRATEGY = Strategy(
    name="medusa",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Heads on the model's last hidden state draft a tree in one run.",
    source="Medusa, arXiv 2401.10774, section 2",
    options=MedusaOptions,
    plan=_plan,
    drafter=HeadsDrafter,
    exporter="ptgc.exporters.strategies.medusa:EXPORTER",
)
