"""Ways to use a build: threads, and draft tokens or a tree of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ptgc.compiler.tuning.drafted_rounds import DraftedRound, accepted_shares, predicted_seconds
from ptgc.compiler.tuning.token_tree import ValuedTree, candidate_trees
from ptgc.runtime.costs import CostCurve
from ptgc.runtime.load_options import LoadOptions
from ptgc.spec.bundle import Build
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.plan import DecodePlan


@dataclass(frozen=True)
class Way:
    """A way to use the bundle: a build, threads, and a number of draft tokens or a tree of them."""

    build: Build
    """Which build."""
    num_threads: int
    """Threads of the engine."""
    num_draft_tokens: int
    """The most draft tokens of a round."""
    seconds: float
    """Predicted seconds per token."""
    plain_seconds: float
    """The same without drafts."""
    drafter: str | None = None
    """The role that drafts, where several can."""
    tree: ValuedTree | None = None
    """The part of the plan's tree that drafts fill; None if they fill none."""
    shares: tuple[float, ...] = ()
    """If one drafter made all drafts: the shares of rounds with drafts that accepted at least 1, 2, ... of them."""

    @property
    def loading(self) -> LoadOptions:
        """How the build is loaded to draft like this."""
        tree = self.tree.tree if self.tree else None
        gains = self.tree.gains if self.tree else self.shares
        return LoadOptions(num_draft_tokens=self.num_draft_tokens, tree=tree, gains=gains, drafter=self.drafter)


def best_way(plan: DecodePlan, build: Build, rounds: Sequence[DraftedRound], curve: CostCurve) -> Way:
    """The best number of draft tokens, or the best tree of any depth and size."""
    drafter = plan.drafter
    shares = accepted_shares(rounds) if len(drafter.parts) == 1 else ()
    found = []
    trees: Sequence[ValuedTree | None] = candidate_trees(plan, rounds) or [None]
    for tree in trees:
        shape = tree.tree if tree else None
        most = most_drafts(drafter, tree)
        seconds = predicted_seconds(rounds, curve, most, drafter.rows_at_once, shape)
        best = min(range(most + 1), key=seconds.__getitem__)
        cut = tree.first(best) if tree else None
        found.append(Way(build, curve.num_threads, best, seconds[best], seconds[0], tree=cut, shares=shares))
    return min(found, key=lambda way: way.seconds)


def most_drafts(drafter: DrafterPlan, tree: ValuedTree | None) -> int:
    """Most draft tokens of a round: those of the tree, or of a lookup that is merged with what fills it."""
    if tree is None:
        return drafter.num_draft_tokens
    return max(len(tree.gains), *(one.num_draft_tokens for one in drafter.parts[:-1]), 0)
