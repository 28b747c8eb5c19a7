"""pard: a smaller model drafts a chain in one run, at mask tokens after the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import MaskDrafter
from ptgc.spec.loop import Loop
from ptgc.spec.options import CheckpointName
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, DynamicTreeOptions, Strategy
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class PardDrafter(MaskDrafter):
    """A causal language model that was trained to predict the tokens at masks after its text."""

    kind: ClassVar[str] = "pard"
    roles: ClassVar[tuple[str, ...]] = ("drafter",)


@dataclass(frozen=True)
class PardOptions(DynamicTreeOptions):
    """Which model drafts, and how its drafts are taken."""

    drafter: CheckpointName
    """The drafter, trained with mask tokens: directory or hub id."""
    num_draft_tokens: DraftTokens = 8
    """Most draft tokens per round, of a chain."""


def pard(
    mask_token_id: int,
    num_draft_tokens: int = PardOptions.num_draft_tokens,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
    tree: TreeSpec | None = None,
) -> DecodePlan:
    """A smaller model drafts a chain in one run; with a tree, the likeliest tokens of each depth.

    Args:
        mask_token_id: The token that stands for a draft.
        num_draft_tokens: Most draft tokens of a round.
        acceptance: How drafts are judged.
        tree: A tree in place of the chain: a node of depth d is one of the likeliest tokens at row d.
    """
    tree = tree or TreeSpec.chain(num_draft_tokens)
    drafter = PardDrafter(tree.num_nodes - 1, block_size=max(tree.depths), mask_token_id=mask_token_id)
    return DecodePlan(STRATEGY.name, drafter=drafter, tree=tree).accepting(acceptance)


def _plan(options: PardOptions, facts: CheckpointFacts) -> DecodePlan:
    assert facts.mask_token_id is not None  # its exporter read it
    return options.judging(pard(facts.mask_token_id, options.num_draft_tokens, tree=options.tree))


STRATEGY = Strategy(
    name="pard",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="A smaller model drafts a chain or a tree in one run, at mask tokens after the text.",
    source="PARD, arXiv 2504.18583, section 3",
    options=PardOptions,
    plan=_plan,
    drafter=PardDrafter,
    exporter="ptgc.exporters.strategies.pard:EXPORTER",
)
