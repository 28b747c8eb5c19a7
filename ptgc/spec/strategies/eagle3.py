"""eagle3: one layer drafts from tokens and from states of three of the target's layers."""

from __future__ import annotations

from dataclasses import dataclass

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.loop import Loop
from ptgc.spec.options import CheckpointName
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, DynamicTreeOptions, Strategy
from ptgc.spec.strategies.eagle import EagleDrafter, eagle_plan
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class Eagle3Options(DynamicTreeOptions):
    """Which drafter, and how its drafts are taken."""

    drafter: CheckpointName
    """The EAGLE-3 drafter that was trained for this model: directory or hub id."""
    num_draft_tokens: DraftTokens = 5
    """Most draft tokens per round, of a chain."""
    lookup: Lookup = Lookup.NONE
    """What drafts in place of the drafter where it finds the end of the text earlier in it."""


def eagle3(
    num_draft_tokens: int = Eagle3Options.num_draft_tokens,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
    tree: TreeSpec | None = None,
) -> DecodePlan:
    """The drafter writes a chain, token by token; with a tree, as many tokens as that has, depth by depth."""
    return eagle_plan(STRATEGY, num_draft_tokens, tree).accepting(acceptance)


def _plan(options: Eagle3Options, _facts: CheckpointFacts) -> DecodePlan:
    plan = options.judging(eagle3(options.num_draft_tokens, tree=options.tree))
    return with_lookup(plan, options.lookup)


STRATEGY = Strategy(
    name="eagle3",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="One layer on states of three of the model's layers drafts a chain or a tree.",
    source="EAGLE-3, arXiv 2503.01840, section 3",
    options=Eagle3Options,
    plan=_plan,
    drafter=EagleDrafter,
    exporter="ptgc.exporters.strategies.eagle3:EXPORTER",
)
