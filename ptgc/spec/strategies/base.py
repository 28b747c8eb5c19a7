"""Strategy: one way to generate, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.fields import Range
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee

DraftTokens = Annotated[int, Range(1, 63)]
"""Draft tokens of a round, as an export may ask for."""


@dataclass(frozen=True)
class CheckpointFacts:
    """What plans need to know of a checkpoint."""

    mask_token_id: int | None = None
    """What its tokenizer puts at a position that is still to be filled."""


@dataclass(frozen=True)
class NoOptions:
    """The options of a strategy that leaves nothing to choose."""


@dataclass(frozen=True)
class Strategy:
    """What export needs to know of a strategy; a bundle's plan says everything that later stages need."""

    name: str
    """As `--strategy` and the manifest have it."""
    loop: Loop
    """The loop that runs it."""
    guarantee: Guarantee
    """How its texts compare with those of plain decoding."""
    summary: str
    """A sentence for `--help`."""
    options: type[Any] = NoOptions
    """What can be chosen at export: a frozen dataclass, see `ptgc.spec.options`."""
    plan: Callable[[Any, CheckpointFacts], DecodePlan] | None = None
    """The loop and policies that options, once checked, describe; None without an exporter."""
    drafter: type[DrafterPlan] = DrafterPlan
    """What reads the drafter of its plans; only our own strategies bring new kinds, since the core must have them."""
    source: str = ""
    """Where it was published."""
    exporter: str = ""
    """What reads its checkpoints, `module:StrategyExporter`; empty where modules are exported only."""
