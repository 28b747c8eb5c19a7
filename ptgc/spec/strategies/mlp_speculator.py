"""mlp-speculator: a small recurrent network drafts from the target's hidden state and the tokens after it."""

from __future__ import annotations

from dataclasses import dataclass

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy
from ptgc.spec.strategies.heads import HeadsDrafter, HeadsOptions, heads_plan
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class MlpSpeculatorOptions(HeadsOptions):
    """Which speculator, and how its drafts are taken."""


def mlp_speculator(tree: TreeSpec, acceptance: AcceptanceRule = AcceptanceRule.MATCH) -> DecodePlan:
    """Each step mixes a token into the state before it, and drafts from the new state."""
    return heads_plan(STRATEGY.name, tree).accepting(acceptance)


def _plan(options: MlpSpeculatorOptions, facts: CheckpointFacts) -> DecodePlan:
    return options.plan(STRATEGY.name, facts)


STRATEGY = Strategy(
    name="mlp-speculator",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="A state that starts as the model's hidden state and takes in draft by draft drafts a tree in one run.",
    source="Wertheimer et al., arXiv 2404.19124, section 3",
    options=MlpSpeculatorOptions,
    plan=_plan,
    drafter=HeadsDrafter,
    exporter="ptgc.exporters.strategies.mlp_speculator:EXPORTER",
)
