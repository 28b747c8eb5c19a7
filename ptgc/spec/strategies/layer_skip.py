"""layer-skip: the target's first layers draft, over the target's own cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_STATES
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import AcceptanceOptions, CheckpointFacts, DraftTokens, Strategy
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.tree import TreeSpec

NumLayers = Annotated[int, Range(1, MAX_STATES)]
"""Layers of a model."""


@dataclass(frozen=True)
class LayerSkipDrafter(DrafterPlan):
    """The first layers of the target, with its embedding, its last norm and its head."""

    kind: ClassVar[str] = "layer-skip"
    roles: ClassVar[tuple[str, ...]] = ("drafter",)
    is_part_of_target: ClassVar[bool] = True

    num_layers: NumLayers = 1
    """Layers of the target that draft."""


@dataclass(frozen=True)
class LayerSkipOptions(AcceptanceOptions):
    """Which part of the model drafts."""

    num_layers: NumLayers
    """How many of the model's first layers draft."""
    num_draft_tokens: DraftTokens = 5
    """Most draft tokens per round."""
    lookup: Lookup = Lookup.NONE
    """What drafts in place of the layers where it finds the end of the text earlier in it."""


def layer_skip(
    num_layers: int,
    num_draft_tokens: int = LayerSkipOptions.num_draft_tokens,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
) -> DecodePlan:
    """The first layers of the target draft a chain."""
    drafter = LayerSkipDrafter(num_draft_tokens, num_layers)
    plan = DecodePlan(STRATEGY.name, drafter=drafter, tree=TreeSpec.chain(num_draft_tokens))
    return plan.accepting(acceptance)


def _plan(options: LayerSkipOptions, _facts: CheckpointFacts) -> DecodePlan:
    plan = options.judging(layer_skip(options.num_layers, options.num_draft_tokens))
    return with_lookup(plan, options.lookup)


STRATEGY = Strategy(
    name="layer-skip",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="The model's first layers draft over its own cache; drafts are only good if it was trained for early exit.",
    source="LayerSkip, arXiv 2404.16710, section 4.3; Draft & Verify, arXiv 2309.08168",
    options=LayerSkipOptions,
    plan=_plan,
    drafter=LayerSkipDrafter,
    exporter="ptgc.exporters.strategies.layer_skip:EXPORTER",
)
