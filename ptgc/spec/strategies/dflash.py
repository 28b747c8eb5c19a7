"""dflash: a few layers fill a block of mask tokens in one run, from states of the target's layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import MaskDrafter
from ptgc.spec.loop import Loop
from ptgc.spec.options import CheckpointName
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.ports import HIDDEN_STATES
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, DynamicTreeOptions, Strategy
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class BlockDrafter(MaskDrafter):
    """Fills a block of mask tokens, whose rows see each other and the target's states of the text."""

    kind: ClassVar[str] = "block"
    roles: ClassVar[tuple[str, ...]] = ("drafter",)
    taps: ClassVar[tuple[str, ...]] = (HIDDEN_STATES,)


@dataclass(frozen=True)
class DflashOptions(DynamicTreeOptions):
    """Which drafter, and how its drafts are taken."""

    drafter: CheckpointName
    """The DFlash drafter that was trained for this model: directory or hub id."""
    num_draft_tokens: DraftTokens | None = None
    """Most draft tokens per round, of a chain; by default all of a block."""


def dflash(
    block_size: int,
    mask_token_id: int,
    num_draft_tokens: int | None = None,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
    tree: TreeSpec | None = None,
) -> DecodePlan:
    """The drafter fills a block of `block_size` rows, the last token of the text included.

    Args:
        block_size: Rows that it was trained for.
        mask_token_id: The token that stands for a draft.
        num_draft_tokens: Most draft tokens of a round; by default all of a block.
        acceptance: How drafts are judged.
        tree: A tree in place of the chain: a node of depth d is one of the likeliest tokens at mask d.
    """
    tree = tree or TreeSpec.chain(block_size - 1 if num_draft_tokens is None else num_draft_tokens)
    drafter = BlockDrafter(tree.num_nodes - 1, block_size=block_size, mask_token_id=mask_token_id)
    return DecodePlan(STRATEGY.name, drafter=drafter, tree=tree).accepting(acceptance)


def _plan(options: DflashOptions, facts: CheckpointFacts) -> DecodePlan:
    assert facts.block_size is not None and facts.mask_token_id is not None  # its exporter read them
    plan = dflash(facts.block_size, facts.mask_token_id, options.num_draft_tokens, tree=options.tree)
    return options.judging(plan)


STRATEGY = Strategy(
    name="dflash",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="A few layers on states of the model's layers fill a block of mask tokens in one run.",
    source="DFlash, arXiv 2602.06036, section 4",
    options=DflashOptions,
    plan=_plan,
    drafter=BlockDrafter,
    exporter="ptgc.exporters.strategies.dflash:EXPORTER",
)
