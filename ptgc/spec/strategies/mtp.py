"""mtp: the layer for multi-token prediction that the target was trained with drafts."""

from __future__ import annotations

from dataclasses import dataclass

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, DynamicTreeOptions, Strategy
from ptgc.spec.strategies.eagle import EagleDrafter, eagle_plan
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class MtpOptions(DynamicTreeOptions):
    """How drafts are made and taken."""

    num_draft_tokens: DraftTokens = 3
    """Most draft tokens per round, of a chain."""
    lookup: Lookup = Lookup.NONE
    """What drafts in place of the layer where it finds the end of the text earlier in it."""


def mtp(
    num_draft_tokens: int = MtpOptions.num_draft_tokens,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
    tree: TreeSpec | None = None,
) -> DecodePlan:
    """The drafter writes a chain, token by token; with a tree, as many tokens as that has, depth by depth."""
    return eagle_plan(STRATEGY, num_draft_tokens, tree).accepting(acceptance)


def _plan(options: MtpOptions, _facts: CheckpointFacts) -> DecodePlan:
    plan = options.judging(mtp(options.num_draft_tokens, tree=options.tree))
    return with_lookup(plan, options.lookup)


STRATEGY = Strategy(
    name="mtp",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="The model's own layer for multi-token prediction drafts a chain or a tree.",
    source="DeepSeek-V3, arXiv 2412.19437, section 2.2",
    options=MtpOptions,
    plan=_plan,
    drafter=EagleDrafter,
    exporter="ptgc.exporters.strategies.mtp:EXPORTER",
)
