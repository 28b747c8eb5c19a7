"""layer-skip: some of the target's layers draft, over the target's own cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import DrafterPlan, alternative_roles
from ptgc.spec.fields import Count, Range
from ptgc.spec.layers import MAX_ALTERNATIVES, LayerSets, spell_layers
from ptgc.spec.limits import MAX_STATES
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import AcceptanceOptions, CheckpointFacts, DraftTokens, Strategy
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.tree import TreeSpec

NumLayers = Annotated[int, Range(1, MAX_STATES)]
"""Layers of a model."""
_Layers = Annotated[tuple[Annotated[int, Range(0, MAX_STATES - 1)], ...], Count(1, MAX_STATES, ascending=True)]


@dataclass(frozen=True)
class LayerSkipDrafter(DrafterPlan):
    """Layers of the target, with its embedding, its last norm and its head."""

    kind: ClassVar[str] = "layer-skip"
    is_part_of_target: ClassVar[bool] = True

    layers: Annotated[tuple[_Layers, ...], Count(1, MAX_ALTERNATIVES)] = ((0,),)
    """Layers of the target that draft, for each role: one of them is chosen on loading, by default the first."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", alternative_roles(len(self.layers)))

    @property
    def alternatives(self) -> tuple[str, ...]:
        """See DrafterPlan."""
        return self.roles

    def describe(self, role: str) -> str:
        """See DrafterPlan."""
        return f"layers {spell_layers(self.layers[self.roles.index(role)])}"

    def to_json(self) -> dict[str, Any]:
        """See DrafterPlan."""
        return super().to_json() | {"layers": [list(one) for one in self.layers]}

    def problems(self) -> list[str]:
        """Subsets that are equal."""
        return [
            f"layers[{place}] are those of layers[{self.layers.index(one)}]"
            for place, one in enumerate(self.layers)
            if self.layers.index(one) < place
        ]


@dataclass(frozen=True)
class LayerSkipOptions(AcceptanceOptions):
    """Which part of the model drafts."""

    num_layers: NumLayers | None = None
    """How many of the model's first layers draft (early exit)."""
    layers: LayerSets | None = None
    """In place of --num-layers, which layers draft: 0-5,9,14, counted from 0. auto searches for layers that draft
    well, auto:8 for eight of them. With / between there are several subsets, of which `ptgc tune` chooses; until then
    the first drafts."""
    num_draft_tokens: DraftTokens = 5
    """Most draft tokens per round."""
    lookup: Lookup = Lookup.NONE
    """What drafts in place of the layers where it finds the end of the text earlier in it."""

    @property
    def sets(self) -> LayerSets:
        """The subsets that draft."""
        if self.layers is not None:
            return self.layers
        return LayerSets((tuple(range(self.num_layers or 1)),))

    def problems(self) -> list[str]:
        """Also layers that are given twice or not at all."""
        found = super().problems()
        if self.num_layers is None and self.layers is None:
            found.append("Strategy 'layer-skip' needs --num-layers, or --layers: which of the model's layers draft.")
        if self.num_layers is not None and self.layers is not None:
            found.append(
                f"--num-layers is {self.num_layers}, and --layers is {self.layers}; give one of them. The first layers "
                f"are --layers {LayerSets((tuple(range(self.num_layers)),))}."
            )
        return found


def layer_skip(
    num_layers: int,
    num_draft_tokens: int = LayerSkipOptions.num_draft_tokens,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
) -> DecodePlan:
    """The first layers of the target draft a chain."""
    return layer_subsets([range(num_layers)], num_draft_tokens, acceptance)


def layer_subsets(
    layers: Sequence[Sequence[int]],
    num_draft_tokens: int = LayerSkipOptions.num_draft_tokens,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
) -> DecodePlan:
    """One of some subsets of the target's layers drafts a chain."""
    drafter = LayerSkipDrafter(num_draft_tokens, tuple(map(tuple, layers)))
    plan = DecodePlan(STRATEGY.name, drafter=drafter, tree=TreeSpec.chain(num_draft_tokens))
    return plan.accepting(acceptance)


def _plan(options: LayerSkipOptions, _facts: CheckpointFacts) -> DecodePlan:
    plan = options.judging(layer_subsets(options.sets.given, options.num_draft_tokens))
    return with_lookup(plan, options.lookup)


STRATEGY = Strategy(
    name="layer-skip",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Some of the model's layers draft over its own cache; the first are only good if it was trained for it.",
    source="LayerSkip, arXiv 2404.16710, section 4.3; Draft & Verify, arXiv 2309.08168; SWIFT, arXiv 2410.06916",
    options=LayerSkipOptions,
    plan=_plan,
    drafter=LayerSkipDrafter,
    exporter="ptgc.exporters.strategies.layer_skip:EXPORTER",
)
