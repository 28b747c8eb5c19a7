"""Tuning: the best settings of a build on this device, as found by `ptgc tune`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from ptgc.runtime.load_options import LoadOptions
from ptgc.runtime.measured import read_measured, write_measured
from ptgc.spec.bundle import Build
from ptgc.spec.fields import Count, Range, Sha256
from ptgc.spec.limits import MAX_THREADS, MAX_TREE_NODES
from ptgc.spec.plan import DecodePlan
from ptgc.spec.tree import TreeSpec

_NAME = "tuning"
_Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class Tuning:
    """Default settings for loading a build on this device."""

    num_threads: Annotated[int, Range(1, MAX_THREADS)]
    """Threads of the engine."""
    num_draft_tokens: Annotated[int, Range(0, MAX_TREE_NODES - 1)]
    """Most draft tokens per round; 0 decodes plainly."""
    acceptance: Annotated[tuple[_Share, ...], Count(0, MAX_TREE_NODES)]
    """The shares of rounds with drafts that accepted at least 1, 2, ... draft tokens."""
    prompts: dict[str, Sha256]
    """sha256 of the prompt files used for tuning, by name."""
    overlap: bool = False
    """Whether drafts are made while the target verifies."""
    tree: TreeSpec | None = None
    """The part of the plan's tree that drafts fill, most valuable nodes first; None for a plan without a tree."""
    gains: Annotated[tuple[_Share, ...], Count(0, MAX_TREE_NODES)] = ()
    """The probability that each draft of the tree is accepted, with all those above it."""

    drafter: str | None = None
    """The role that drafts, of those that can take each other's place; None where there is no choice."""

    def problems(self) -> list[str]:
        """Contradictions within."""
        drafts = 0 if self.tree is None else self.tree.num_nodes - 1
        return [] if len(self.gains) == drafts else [f"gains has {len(self.gains)} entries; tree has {drafts} drafts"]

    def misfits(self, plan: DecodePlan) -> list[str]:
        """What does not fit the bundle's plan."""
        if self.tree is None:
            return []
        whole = plan.filled_tree
        if whole is None:
            return ["tree has no use: this bundle's drafts do not fill a tree of its plan"]
        absent = [node for node, other in enumerate(self.tree.nodes_in(whole)) if other is None]
        return [f"tree has node {absent[0]}, which the plan's tree lacks"] if absent else []

    def applied_to(self, options: LoadOptions, plan: DecodePlan) -> LoadOptions:
        """The options, with what was tuned in place of what is not given."""
        drafter = self.chosen_drafter(plan)
        if options.num_draft_tokens is None and options.tree is None:
            options = replace(options, num_draft_tokens=self.most_draft_tokens(plan), tree=self.tree)
        if options.drafter is None:
            options = replace(options, drafter=drafter)
        if options.gains is None and (options.tree, options.drafter) == (self.tree, drafter):
            options = replace(options, gains=self.draft_gains(plan))
        return options

    def most_draft_tokens(self, plan: DecodePlan) -> int:
        """Most draft tokens per round, never more than the bundle's plan has."""
        return min(self.num_draft_tokens, plan.drafter.num_draft_tokens)

    def draft_gains(self, plan: DecodePlan) -> tuple[float, ...]:
        """The gains of the tree, or those of a chain; empty where they are not known.

        Of merged drafters that fill no tree, nobody knows which of them made the drafts.
        """
        return self.acceptance if self.tree is None and len(plan.drafter.parts) == 1 else self.gains

    def to_json(self) -> dict[str, Any]:
        """This tuning as it is stored."""
        return asdict(self) | {"tree": None if self.tree is None else self.tree.to_json()}

    def chosen_drafter(self, plan: DecodePlan) -> str | None:
        """The role that drafts; None where the bundle's plan has no such role."""
        return self.drafter if self.drafter in plan.drafter.roles else None


def write_tuning(build: Build, tuning: Tuning) -> None:
    """Store the settings found by tuning."""
    write_measured(build, _NAME, tuning.to_json())


def read_tuning(build: Build, plan: DecodePlan, refused: list[str] | None = None) -> Tuning | None:
    """The settings found for this build on this device, or None.

    Args:
        build: Which build.
        plan: Its bundle's; settings that do not fit it are not used.
        refused: Receives why settings that were found are not used.
    """
    found: list[str] = [] if refused is None else refused
    for tuning in read_measured(build, _NAME, Tuning, found):
        misfits = tuning.misfits(plan)
        if not misfits:
            return tuning
        found.append("; ".join(misfits))
    return None
