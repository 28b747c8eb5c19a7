"""What medusa, hydra and mlp-speculator share: heads on the target's hidden state draft a tree in one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import ClassVar

from ptgc.errors import ExportError
from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.options import CheckpointName
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import HIDDEN_STATES
from ptgc.spec.strategies.base import CheckpointFacts, TreeOptions
from ptgc.spec.tree import TreeSpec

_FIRST, _NEXT = 0.6, 0.45  # assumed acceptance of a head's best guess, and that of each next one relative to it
_NUM_DRAFTS, _HEIGHT = 15, 4  # of the default tree, which makes rounds of 16 rows


@dataclass(frozen=True)
class HeadsDrafter(DrafterPlan):
    """One run of all heads gives every draft of the tree: head d gives the tokens of depth d, the likeliest first."""

    kind: ClassVar[str] = "heads"
    roles: ClassVar[tuple[str, ...]] = ("heads",)
    taps: ClassVar[tuple[str, ...]] = (HIDDEN_STATES,)

    @property
    def rows_at_once(self) -> int:
        """The last hidden state."""
        return 1


@dataclass(frozen=True)
class HeadsOptions(TreeOptions):
    """Which heads, and how their drafts are taken."""

    heads: CheckpointName
    """The heads that were trained for this model: directory or hub id."""
    tree: TreeSpec | None = field(default=None, kw_only=True)
    """The token tree to draft: children by depth (4,2,1), or a JSON file with the parent of each node. By default 15
    drafts, up to 4 tokens deep; a chain for acceptance block."""

    def plan(self, strategy: str, facts: CheckpointFacts) -> DecodePlan:
        """The plan of a strategy with these options."""
        return self.judging(heads_plan(strategy, self._chosen_tree(facts.num_heads)))

    def _chosen_tree(self, num_heads: int | None) -> TreeSpec:
        """The tree that was asked for, or the default for so many heads.

        Raises:
            ExportError: It is deeper than there are heads.
        """
        if self.tree is None:
            height = min(num_heads or _HEIGHT, _HEIGHT)
            return TreeSpec.chain(height) if self.acceptance is AcceptanceRule.BLOCK else likely_tree(height)
        depth = max(self.tree.depths)
        if num_heads is not None and depth > num_heads:
            raise ExportError(
                f"--tree is {depth} tokens deep; the drafter has {num_heads} heads, one for each depth.",
                f"Give a tree of at most {num_heads} tokens in a row.",
            )
        return self.tree


def heads_plan(strategy: str, tree: TreeSpec) -> DecodePlan:
    """Heads draft a static tree, at most as deep as there are heads."""
    return DecodePlan(strategy, drafter=HeadsDrafter(tree.num_nodes - 1), tree=tree)


def likely_tree(height: int, num_drafts: int = _NUM_DRAFTS) -> TreeSpec:
    """The nodes with the highest assumed probability of acceptance with all their ancestors, in the order of depths."""
    found: list[tuple[int, ...]] = []  # for each node the ranks on its path
    open_nodes: list[tuple[float, tuple[int, ...]]] = [(-_FIRST, (0,))]
    while len(found) < num_drafts:
        gain, path = heappop(open_nodes)
        found.append(path)
        heappush(open_nodes, (gain * _NEXT, (*path[:-1], path[-1] + 1)))
        if len(path) < height:
            heappush(open_nodes, (gain * _FIRST, (*path, 0)))
    found.sort(key=lambda path: (len(path), path))
    numbers = {path: number for number, path in enumerate(((), *found))}
    return TreeSpec((-1, *(numbers[path[:-1]] for path in found)))
