"""hydra: heads on the target's hidden state that also read the drafts before theirs."""

from __future__ import annotations

from dataclasses import dataclass

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy
from ptgc.spec.strategies.heads import HeadsDrafter, HeadsOptions, heads_plan
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class HydraOptions(HeadsOptions):
    """Which heads, and how their drafts are taken."""


def hydra(tree: TreeSpec, acceptance: AcceptanceRule = AcceptanceRule.MATCH) -> DecodePlan:
    """A head reads the state and the embeddings of all tokens up to the node whose children it drafts."""
    return heads_plan(STRATEGY.name, tree).accepting(acceptance)


def _plan(options: HydraOptions, facts: CheckpointFacts) -> DecodePlan:
    return options.plan(STRATEGY.name, facts)


STRATEGY = Strategy(
    name="hydra",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Heads that read the model's hidden state and the drafts before theirs draft a tree in one run.",
    source="Hydra, arXiv 2402.05109, section 3",
    options=HydraOptions,
    plan=_plan,
    drafter=HeadsDrafter,
    exporter="ptgc.exporters.strategies.hydra:EXPORTER",
)
