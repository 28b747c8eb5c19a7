"""Chooses which part of a plan's token tree drafts fill, from how often drafts of each place in it are accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from ptgc.compiler.tuning.drafted_rounds import DraftedRound
from ptgc.spec.plan import DecodePlan
from ptgc.spec.tree import TreeSpec

Rates = Mapping[tuple[int, int], float]
"""The probability that a draft is accepted if its parent is, by its depth (from 1) and its rank among its siblings."""


@dataclass(frozen=True)
class ValuedTree:
    """A part of a plan's tree, most valuable nodes first, so that its first nodes are the best smaller tree."""

    tree: TreeSpec
    """The part."""
    gains: tuple[float, ...]
    """The probability that each draft is accepted, with all those above it."""

    def first(self, num_draft_tokens: int) -> ValuedTree:
        """Its most valuable drafts."""
        return ValuedTree(self.tree.first(num_draft_tokens), self.gains[:num_draft_tokens])

    @property
    def expected_tokens(self) -> float:
        """Expected new tokens of a round that verifies all of it: at most one node of each depth is accepted."""
        return 1 + sum(self.gains)


def acceptance_rates(rounds: Iterable[DraftedRound]) -> Rates:
    """How often drafts were accepted whose parent was, by depth and rank; drafts that were looked up do not count.

    Drafters rank children by likelihood, so if a later child seems to be accepted more often than an elder one, that is
    chance: both get their common rate (the "pool adjacent violators" of isotonic regression).
    """
    tried: Counter[tuple[int, int]] = Counter()
    accepted: Counter[tuple[int, int]] = Counter()
    for one in rounds:
        if one.runs_drafter:
            tried.update((depth, rank) for depth, count in enumerate(one.children, 1) for rank in range(count))
            accepted.update(enumerate(one.ranks, 1))
    found: dict[tuple[int, int], float] = {}
    for depth in {depth for depth, _ in tried}:
        pools: list[tuple[int, int, int]] = []  # accepted, tried, ranks
        for rank in range(sum(place[0] == depth for place in tried)):
            pools.append((accepted[depth, rank], tried[depth, rank], 1))
            while len(pools) > 1 and pools[-1][0] * pools[-2][1] > pools[-2][0] * pools[-1][1]:
                later, elder = pools.pop(), pools.pop()
                pools.append((later[0] + elder[0], later[1] + elder[1], later[2] + elder[2]))
        rates = [kept / count for kept, count, ranks in pools for _ in range(ranks)]
        found |= {(depth, rank): rate for rank, rate in enumerate(rates)}
    return found


def most_valuable(whole: TreeSpec, rates: Rates, height: int) -> ValuedTree:
    """The nodes of a tree by value, without those deeper than `height` and those that were never accepted.

    A node's value is the probability that it is accepted: the product of the rates on its path. The values of a tree
    add up to its expected number of accepted drafts (Sequoia, Chen et al., arXiv 2402.12374, section 4.1.1). Sequoia
    finds the best tree of every size by dynamic programming; here taking the most valuable node again and again finds
    the same: no node has a higher value than its parent or its elder sibling, so the n most valuable nodes are a tree
    by themselves, and no other n nodes have a larger sum.
    """
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(whole.parents):
        children.setdefault(parent, []).append(node)
    depths, ranks = whole.depths, whole.ranks
    places: dict[int, int] = {}  # of taken nodes, in the order of their values
    gains: list[float] = []
    reached = [(-1.0, 0)]  # minus the value, and the node; of equal values the first node
    while reached:
        value, node = heappop(reached)
        places[node] = len(places)
        gains.append(-value)
        for child in children.get(node, ()):
            gain = -value * rates.get((depths[child], ranks[child]), 0.0)
            if gain > 0 and depths[child] <= height:
                heappush(reached, (-gain, child))
    return ValuedTree(TreeSpec((-1, *(places[whole.parents[node]] for node in list(places)[1:]))), tuple(gains[1:]))


def candidate_trees(plan: DecodePlan, rounds: Iterable[DraftedRound]) -> list[ValuedTree]:
    """Trees of every depth, the deepest last, of which each size is a candidate: deeper ones cost a drafter more runs.

    There are none if drafts do not fill a tree, or if none was ever accepted.
    """
    whole = plan.filled_tree
    if whole is None:
        return []
    rates = acceptance_rates(rounds)
    found = (most_valuable(whole, rates, height) for height in range(1, max(whole.depths) + 1))
    return list(dict.fromkeys(one for one in found if one.gains))
