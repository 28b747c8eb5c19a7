"""Strategy: one way to generate, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from ptgc.errors import ExportError
from ptgc.spec.acceptance import AcceptanceRule, Candidates, Margin, RelaxedAcceptance, Share, TypicalAcceptance
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.fields import Range
from ptgc.spec.loop import Loop
from ptgc.spec.options import flag
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.tree import TreeSpec

DraftTokens = Annotated[int, Range(1, 63)]
"""Draft tokens per round, in the range that an export may ask for."""


@dataclass(frozen=True, kw_only=True)
class AcceptanceOptions:
    """How drafts are judged.

    The options of every strategy whose drafts may be judged by any rule derive from this class, so that all have the
    same ones.
    """

    acceptance: AcceptanceRule = AcceptanceRule.MATCH
    """Which drafts are accepted. When sampling, match keeps the text of plain decoding; speculative and, for chains,
    block accept more drafts, and keep its distribution. typical and relaxed are lossy: they accept whatever is likely
    enough, also in greedy texts."""
    typical_epsilon: Share = TypicalAcceptance.epsilon
    """typical: a draft of more than this probability is accepted."""
    typical_delta: Share = TypicalAcceptance.delta
    """typical: so is one of more than this share of exp(-entropy)."""
    relaxed_top_k: Candidates = RelaxedAcceptance.top_k
    """relaxed: how many of the likeliest tokens are accepted as drafts."""
    relaxed_margin: Margin = RelaxedAcceptance.margin
    """relaxed: how far the log-probability of a draft may be below that of the likeliest token."""

    def judging(self, plan: DecodePlan) -> DecodePlan:
        """A plan with this rule, its parameters and its guarantee."""
        typical = TypicalAcceptance(self.typical_epsilon, self.typical_delta)
        relaxed = RelaxedAcceptance(self.relaxed_top_k, self.relaxed_margin)
        return plan.accepting(
            self.acceptance,
            typical if self.acceptance is AcceptanceRule.TYPICAL else None,
            relaxed if self.acceptance is AcceptanceRule.RELAXED else None,
        )

    def problems(self) -> list[str]:
        """Parameters of other rules, one sentence each."""
        found = []
        for rule in (AcceptanceRule.TYPICAL, AcceptanceRule.RELAXED):
            given = [name for name in _PARAMETERS[rule] if getattr(self, name) != getattr(AcceptanceOptions, name)]
            if given and self.acceptance is not rule:
                flags = ", ".join(map(flag, given))
                found.append(f"{flags}: only --acceptance {rule.value} has this, not {self.acceptance.value}.")
        return found


@dataclass(frozen=True, kw_only=True)
class TreeOptions(AcceptanceOptions):
    """The same, of a drafter that can draft a tree."""

    tree: TreeSpec | None = None
    """A token tree in place of the chain: children by depth (4,2,1), or a JSON file with the parent of each node."""

    def problems(self) -> list[str]:
        """Also what is wrong with a token tree that a user gave."""
        found = super().problems()
        if self.tree is None or self.tree.is_chain:
            return found
        if self.acceptance is AcceptanceRule.BLOCK:
            found.append("--acceptance is block, which takes chains; --tree is none. For trees there is speculative.")
        if list(self.tree.depths) != sorted(self.tree.depths):
            found.append("--tree must have its nodes in the order of their depths: it is drafted depth by depth.")
        return found


@dataclass(frozen=True, kw_only=True)
class DynamicTreeOptions(TreeOptions):
    """The same, of a drafter that can draft the tree that is likeliest."""

    dynamic_tree: bool = False
    """Verify the likeliest drafts, whatever tree they form (EAGLE-2, DDTree): as many as --tree has, as deep as it is,
    with as many nodes read at each depth as have children there."""

    def judging(self, plan: DecodePlan) -> DecodePlan:
        """Also with this kind of tree."""
        return replace(super().judging(plan), dynamic_tree=self.dynamic_tree)

    def problems(self) -> list[str]:
        """Also a dynamic tree without a size."""
        found = super().problems()
        if self.dynamic_tree and (self.tree is None or self.tree.is_chain):
            found.append("--dynamic-tree needs --tree, which says how many drafts it has and how deep it is.")
        return found


_PARAMETERS = {
    AcceptanceRule.TYPICAL: ("typical_epsilon", "typical_delta"),
    AcceptanceRule.RELAXED: ("relaxed_top_k", "relaxed_margin"),
}
"""The options that a rule alone has."""


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """What plans need to know about a checkpoint."""

    mask_token_id: int | None = None
    """The mask token of its tokenizer, its configuration or its drafter, which marks a position still to be filled."""
    num_heads: int | None = None
    """Heads of the checkpoint that drafts, if it has heads: the most tokens in a row that they can draft."""
    block_size: int | None = None
    """Rows that its drafter fills in one run, or positions of the blocks that it fills one after the other."""
    num_layers: int = 1
    """Its layers for multi-token prediction, each of which drafts one token further ahead."""
    shift: bool = False
    """Whether it predicts the token of a position by the row before."""


def mask_token(given: int | None, facts: CheckpointFacts, strategy: str) -> int:
    """The mask token that an option gives, or else the checkpoint.

    Raises:
        ExportError: Neither does.
    """
    found = facts.mask_token_id if given is None else given
    if found is None:
        raise ExportError(
            f"Strategy '{strategy}' needs a mask token, and neither this checkpoint's tokenizer nor its config.json "
            "names one.",
            "Give it with --mask-token-id, or add mask_token to its tokenizer_config.json.",
        )
    return found


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
