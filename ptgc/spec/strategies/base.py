"""Strategy: one way to generate, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.fields import Range
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.tree import TreeSpec

DraftTokens = Annotated[int, Range(1, 63)]
"""Draft tokens per round, in the range that an export may ask for."""


def tree_problems(tree: TreeSpec | None, acceptance: AcceptanceRule) -> list[str]:
    """What is wrong with a token tree that a user gave, in whole sentences."""
    if tree is None or tree.is_chain:
        return []
    found = []
    if acceptance is AcceptanceRule.SPECULATIVE:
        found.append("--acceptance is speculative, which takes chains; --tree is none.")
    if list(tree.depths) != sorted(tree.depths):
        found.append("--tree must have its nodes in the order of their depths: it is drafted depth by depth.")
    return found


@dataclass(frozen=True)
class CheckpointFacts:
    """What plans need to know about a checkpoint."""

    mask_token_id: int | None = None
    """Its tokenizer's mask token, which marks a position still to be filled."""


@dataclass(frozen=True)
class NoOptions:
    """The options of a strategy that leaves nothing to choose."""


@dataclass(frozen=True)
class Strategy:
    """What export needs to know about a strategy; a bundle's plan has everything that later stages need."""

    name: str
    """The name for `--strategy` and the manifest."""
    loop: Loop
    """The loop that runs it."""
    guarantee: Guarantee
    """How its texts compare with those of plain decoding."""
    summary: str
    """A sentence for `--help`."""
    options: type[Any] = NoOptions
    """What can be chosen at export: a frozen dataclass, see `ptgc.spec.options`."""
    plan: Callable[[Any, CheckpointFacts], DecodePlan] | None = None
    """Makes the plan from checked options; None without an exporter."""
    drafter: type[DrafterPlan] = DrafterPlan
    """The class of its plans' drafter. Only built-in strategies have new kinds, because the core must support them."""
    source: str = ""
    """Where the method was published."""
    exporter: str = ""
    """What reads its checkpoints, `module:StrategyExporter`; empty if only modules are exported."""
