"""eagle: one layer drafts from tokens and from the target's last hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.loop import Loop
from ptgc.spec.options import CheckpointName
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.ports import HIDDEN_STATES
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, DynamicTreeOptions, Strategy
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class EagleDrafter(DrafterPlan):
    """Reads each token beside the target's state of the one before, and behind drafts its own instead."""

    kind: ClassVar[str] = "eagle"
    roles: ClassVar[tuple[str, ...]] = ("drafter",)
    draws_dynamic_trees: ClassVar[bool] = True
    taps: ClassVar[tuple[str, ...]] = (HIDDEN_STATES,)


@dataclass(frozen=True)
class EagleOptions(DynamicTreeOptions):
    """Which drafter, and how its drafts are taken."""

    drafter: CheckpointName
    """The EAGLE or HASS drafter that was trained for this model: directory or hub id."""
    num_draft_tokens: DraftTokens = 5
    """Most draft tokens per round, of a chain."""
    lookup: Lookup = Lookup.NONE
    """What drafts in place of the drafter where it finds the end of the text earlier in it."""


def eagle(
    num_draft_tokens: int = EagleOptions.num_draft_tokens,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
    tree: TreeSpec | None = None,
) -> DecodePlan:
    """The drafter writes a chain, token by token; with a tree, as many tokens as that has, depth by depth."""
    return eagle_plan(STRATEGY, num_draft_tokens, tree).accepting(acceptance)


def eagle_plan(strategy: Strategy, num_draft_tokens: int, tree: TreeSpec | None) -> DecodePlan:
    """The plan of a strategy with this drafter: a chain, or a tree in its place."""
    tree = tree or TreeSpec.chain(num_draft_tokens)
    return DecodePlan(strategy.name, drafter=EagleDrafter(tree.num_nodes - 1), tree=tree)


def _plan(options: EagleOptions, _facts: CheckpointFacts) -> DecodePlan:
    plan = options.judging(eagle(options.num_draft_tokens, tree=options.tree))
    return with_lookup(plan, options.lookup)


STRATEGY = Strategy(
    name="eagle",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="One layer on the model's last hidden states drafts a chain or a tree.",
    source="EAGLE, arXiv 2401.15077, section 4.1; HASS, arXiv 2408.15766",
    options=EagleOptions,
    plan=_plan,
    drafter=EagleDrafter,
    exporter="ptgc.exporters.strategies.eagle:EXPORTER",
)
