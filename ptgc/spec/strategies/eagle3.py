"""eagle3: one layer drafts from tokens and from states of three of the target's layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.loop import Loop
from ptgc.spec.options import CheckpointName
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.ports import HIDDEN_STATES
from ptgc.spec.strategies.base import AcceptanceOptions, CheckpointFacts, DraftTokens, Strategy
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class EagleDrafter(DrafterPlan):
    """Reads each token beside the target's state of the one before, and behind drafts its own instead."""

    kind: ClassVar[str] = "eagle"
    roles: ClassVar[tuple[str, ...]] = ("drafter",)
    taps: ClassVar[tuple[str, ...]] = (HIDDEN_STATES,)


@dataclass(frozen=True)
class Eagle3Options(AcceptanceOptions):
    """Which drafter, and how its drafts are taken."""

    drafter: CheckpointName
    """The EAGLE-3 drafter that was trained for this model: directory or hub id."""
    num_draft_tokens: DraftTokens = 5
    """Most draft tokens per round, of a chain."""
    tree: TreeSpec | None = None
    """A token tree in place of the chain: children by depth (4,2,1), or a JSON file with the parent of each node."""

    def problems(self) -> list[str]:
        """Options that rule each other out."""
        return self.acceptance_problems(self.tree)


def eagle3(
    num_draft_tokens: int = Eagle3Options.num_draft_tokens,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
    tree: TreeSpec | None = None,
) -> DecodePlan:
    """The drafter writes a chain, token by token; with a tree, as many tokens as that has, depth by depth."""
    tree = tree or TreeSpec.chain(num_draft_tokens)
    plan = DecodePlan(STRATEGY.name, drafter=EagleDrafter(tree.num_nodes - 1), tree=tree)
    return plan.accepting(acceptance)


def _plan(options: Eagle3Options, _facts: CheckpointFacts) -> DecodePlan:
    return options.judging(eagle3(options.num_draft_tokens, tree=options.tree))


STRATEGY = Strategy(
    name="eagle3",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="One layer on states of three of the model's layers drafts a chain.",
    source="EAGLE-3, arXiv 2503.01840, section 3",
    options=Eagle3Options,
    plan=_plan,
    drafter=EagleDrafter,
    exporter="ptgc.exporters.strategies.eagle3:EXPORTER",
)
