"""mtp: the layers for multi-token prediction that the target was trained with draft."""

from __future__ import annotations

from dataclasses import dataclass

from ptgc.errors import ExportError
from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import LayersDrafter
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, DynamicTreeOptions, Strategy
from ptgc.spec.strategies.eagle import EagleDrafter, eagle_plan
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.tree import TreeSpec

_DRAFTS = 3  # of a single layer, which drafts token by token


@dataclass(frozen=True)
class MtpOptions(DynamicTreeOptions):
    """How drafts are made and taken."""

    num_draft_tokens: DraftTokens | None = None
    """Most draft tokens per round, of a chain; by default 3, or one for each layer if there are several."""
    lookup: Lookup = Lookup.NONE
    """What drafts in place of a single layer where it finds the end of the text earlier in it."""


def mtp(
    num_draft_tokens: int | None = None,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
    tree: TreeSpec | None = None,
    num_layers: int = 1,
) -> DecodePlan:
    """One layer writes a chain, token by token; several write it in one run, a token each.

    Args:
        num_draft_tokens: Most draft tokens of a round; by default 3, or one for each of several layers.
        acceptance: How drafts are judged.
        tree: A tree in place of the chain. One layer drafts it depth by depth; of several, layer k gives the likeliest
            tokens of depth k, whatever their ancestors are.
        num_layers: Layers for multi-token prediction.
    """
    if num_layers == 1:
        return eagle_plan(STRATEGY, num_draft_tokens or _DRAFTS, tree).accepting(acceptance)
    tree = tree or TreeSpec.chain(num_draft_tokens or num_layers)
    drafter = LayersDrafter(tree.num_nodes - 1, num_layers=num_layers)
    return DecodePlan(STRATEGY.name, drafter=drafter, tree=tree).accepting(acceptance)


def _plan(options: MtpOptions, facts: CheckpointFacts) -> DecodePlan:
    plan = options.judging(mtp(options.num_draft_tokens, tree=options.tree, num_layers=facts.num_layers))
    if facts.num_layers > 1 and options.lookup is not Lookup.NONE:
        raise ExportError(
            f"--lookup is {options.lookup.value}; with {facts.num_layers} layers for multi-token prediction, which "
            "draft in one run, there is none.",
            "Leave it out.",
        )
    return with_lookup(plan, options.lookup)


STRATEGY = Strategy(
    name="mtp",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="The model's own layers for multi-token prediction draft a chain or a tree.",
    source="DeepSeek-V3, arXiv 2412.19437, section 2.2",
    options=MtpOptions,
    plan=_plan,
    drafter=EagleDrafter,
    exporter="ptgc.exporters.strategies.mtp:EXPORTER",
)
