"""recycling: drafts are the target's likeliest tokens when it last read each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_TOP_IDS
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy
from ptgc.spec.tree import TreeSpec

Candidates = Annotated[int, Range(2, MAX_TOP_IDS)]
"""Likeliest tokens that are kept for each token."""

DEFAULT_TREE = TreeSpec(
    (-1, *(0,) * 7, 1, 1, 1, 1, 2, 2, 3, 4, 8, 8, 9, 10, 12, 16, 16, 21),
)
r"""23 drafts, more of them after likelier tokens, in the manner of the paper's tree of 80.

```
depth 1     1        2      3   4  5 6 7
depth 2     8 9 10 11  12 13   14  15
depth 3     16 17 18 19  20             16, 17 after 8; 18 after 9; 19 after 10; 20 after 12
depth 4     21 22                       both after 16
depth 5     23                          after 21
```
"""


@dataclass(frozen=True)
class RecyclingDrafter(DrafterPlan):
    """Keeps the likeliest tokens after each token of the vocabulary, from whichever row of the target saw it last."""

    kind: ClassVar[str] = "recycling"

    num_candidates: Candidates = 8
    """Likeliest tokens that are kept for each token."""

    @property
    def num_top_ids(self) -> int:
        """All candidates are the target's."""
        return self.num_candidates

    def misfits(self, tree: TreeSpec) -> list[str]:
        """Nodes with more children than there are candidates."""
        most = max(tree.ranks[1:], default=0) + 1
        if most <= self.num_candidates:
            return []
        return [f"drafter.num_candidates is {self.num_candidates}; a node of tree has {most} children"]


@dataclass(frozen=True)
class RecyclingOptions:
    """How many candidates are kept, and how many are drafted."""

    num_candidates: Candidates = 8
    """Likeliest next tokens to keep for each token."""
    tree: TreeSpec | None = None
    """The token tree: children by depth (4,2,1), or a JSON file with the parent of each node. Default: 23 tokens."""

    def problems(self) -> list[str]:
        """Trees that cannot be drafted."""
        found, tree = [], self.tree or DEFAULT_TREE
        if list(tree.depths) != sorted(tree.depths):
            found.append("--tree must have its nodes in the order of their depths.")
        most = max(tree.ranks[1:], default=0) + 1
        if most > self.num_candidates:
            given = "--tree" if self.tree is not None else "the default tree"
            found.append(f"--num-candidates is {self.num_candidates}; a node of {given} has {most} children.")
        return found


def recycling(num_candidates: int = RecyclingOptions.num_candidates, tree: TreeSpec = DEFAULT_TREE) -> DecodePlan:
    """A static tree, filled from the likeliest tokens that the target gave after each token."""
    return DecodePlan(STRATEGY.name, drafter=RecyclingDrafter(tree.num_nodes - 1, num_candidates), tree=tree)


def _plan(options: RecyclingOptions, _facts: CheckpointFacts) -> DecodePlan:
    return recycling(options.num_candidates, options.tree or DEFAULT_TREE)


STRATEGY = Strategy(
    name="recycling",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Token recycling: drafts are the model's own runners-up when it last read the same token.",
    source="Token Recycling, Luo et al., arXiv 2408.08696, section 3",
    options=RecyclingOptions,
    plan=_plan,
    drafter=RecyclingDrafter,
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
