"""medusa: heads on the target's last hidden state draft, each head one token further ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.ports import HIDDEN_STATES
from ptgc.spec.strategies.base import Strategy
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class HeadsDrafter(DrafterPlan):
    """One run of all heads gives every draft of the tree: head d gives the tokens of depth d, the likeliest first."""

    kind: ClassVar[str] = "heads"
    roles: ClassVar[tuple[str, ...]] = ("heads",)
    taps: ClassVar[tuple[str, ...]] = (HIDDEN_STATES,)


def medusa(tree: TreeSpec, acceptance: AcceptanceRule = AcceptanceRule.MATCH) -> DecodePlan:
    """Heads draft a static tree, at most as deep as there are heads."""
    plan = DecodePlan(STRATEGY.name, drafter=HeadsDrafter(tree.num_nodes - 1), tree=tree)
    return plan.accepting(acceptance)


STRATEGY = Strategy(
    name="medusa",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Heads on the model's last hidden state draft a tree in one run.",
    source="Medusa, arXiv 2401.10774, section 2",
    drafter=HeadsDrafter,
)
