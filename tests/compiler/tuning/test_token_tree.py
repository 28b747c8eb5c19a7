"""Which part of a plan's tree drafts fill."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ptgc.compiler.tuning.drafted_rounds import DraftedRound, replayed_seconds, taken_seconds
from ptgc.compiler.tuning.token_tree import acceptance_rates, candidate_trees, most_valuable
from ptgc.runtime.costs import CostCurve, RoundCost
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.lookahead import lookahead
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.strategies.ngram import ngram
from ptgc.spec.tree import TreeSpec

TREE = TreeSpec((-1, 0, 0, 0, 1, 1, 2, 4, 4, 6))
HEIGHT = 3


@some.composite
def rates(draw: some.DrawFn) -> dict[tuple[int, int], float]:
    """Of every place in the tree; a later sibling's is not above that of an elder one."""
    found = {}
    for depth in range(1, HEIGHT + 1):
        ordered = sorted(draw(some.lists(some.floats(0.01, 1), min_size=3, max_size=3)), reverse=True)
        found |= {(depth, rank): rate / 3 for rank, rate in enumerate(ordered)}
    return found


def value_of(node: int, rates: dict[tuple[int, int], float]) -> float:
    """The probability that a node of TREE is accepted."""
    value = 1.0
    while node > 0:
        value *= rates[TREE.depths[node], TREE.ranks[node]]
        node = TREE.parents[node]
    return value


def best_by_brute_force(count: int, height: int, rates: dict[tuple[int, int], float]) -> float:
    """The largest expected number of accepted drafts of all sets of nodes that are trees."""
    nodes = [node for node in range(1, TREE.num_nodes) if TREE.depths[node] <= height]
    sums = [
        sum(value_of(node, rates) for node in chosen)
        for chosen in combinations(nodes, count)
        if all(TREE.parents[node] in {0, *chosen} for node in chosen)
    ]
    return max(sums, default=0.0)


@given(rates())
def test_the_most_valuable_nodes_are_the_best_tree_of_every_size_and_depth(
    rates: dict[tuple[int, int], float],
) -> None:
    for height in range(1, HEIGHT + 1):
        found = most_valuable(TREE, rates, height)
        assert len(found.gains) == sum(1 <= depth <= height for depth in TREE.depths)
        assert None not in found.tree.nodes_in(TREE)
        for count in range(1, len(found.gains) + 1):
            cut = found.first(count)
            assert cut.expected_tokens - 1 == pytest.approx(best_by_brute_force(count, height, rates))
            assert max(cut.tree.depths) <= height


def test_a_nodes_gain_is_the_product_of_the_rates_above_it() -> None:
    found = most_valuable(TREE, {(1, 0): 0.5, (1, 1): 0.25, (2, 0): 0.4, (3, 0): 0.5}, HEIGHT)
    assert found.tree.parents == (-1, 0, 0, 1, 2, 3, 4)
    assert found.gains == pytest.approx((0.5, 0.25, 0.2, 0.1, 0.1, 0.05))
    assert found.expected_tokens == pytest.approx(2.2)


def test_drafts_count_only_where_their_parent_was_accepted() -> None:
    rounds = [
        DraftedRound(9, 2, ranks=(0, 1), children=(3, 2, 0)),
        DraftedRound(9, 1, ranks=(0,), children=(3, 2)),
        DraftedRound(9, 1, ranks=(2,), children=(3, 0)),
        DraftedRound(9, 0, ranks=(), children=(3,)),
        DraftedRound(4, 4, runs_drafter=False, ranks=(0, 0, 0, 0), children=(1, 1, 1, 1, 0)),  # looked up
    ]
    found = acceptance_rates(rounds)
    # Rank 2 was accepted more often than rank 1 by chance: both get their common rate. So do both ranks of depth 2.
    assert found == pytest.approx({(1, 0): 0.5, (1, 1): 0.125, (1, 2): 0.125, (2, 0): 0.25, (2, 1): 0.25})


def test_only_drafts_that_fill_a_tree_have_candidates() -> None:
    rounds = [DraftedRound(5, 2, ranks=(0, 0), children=(2, 1, 0))]
    tree = TreeSpec.branching(2, 1)
    (shallow, deep) = candidate_trees(draft_model(tree=tree), rounds)
    assert (shallow.tree.parents, deep.tree.parents) == ((-1, 0), (-1, 0, 1))
    assert candidate_trees(draft_model(tree=tree), [DraftedRound(5, 0, children=(2,))]) == []
    assert candidate_trees(with_lookup(draft_model(tree=tree), Lookup.NGRAM), rounds) == [shallow, deep]
    dynamic = replace(draft_model(tree=tree), dynamic_tree=True)
    for plan in (ngram(5), draft_model(5), dynamic, lookahead(), with_lookup(draft_model(5), Lookup.NGRAM)):
        assert candidate_trees(plan, rounds) == []


COSTS = {1: 1.0, 2: 1.25, 4: 1.5, 8: 2.5}
CURVE = CostCurve(
    2,
    256,
    {width: RoundCost(one, one, one, 1) for width, one in COSTS.items()},
    {width: RoundCost(one, one, one, 1) for width, one in {1: 0.25, 2: 0.5, 4: 0.75}.items()},
)
PART = TreeSpec((-1, 0, 0, 1, 2))


def test_a_tree_costs_a_run_of_the_drafter_for_each_depth_that_has_children() -> None:
    taken = [DraftedRound(4, 3), DraftedRound(2, 0)]
    assert taken_seconds(taken, CURVE, tree=PART) == pytest.approx((2.5 + 0.25 + 0.5 + 1.5 + 0.25) / 5)


def test_a_round_is_replayed_along_its_accepted_path() -> None:
    one = DraftedRound(9, 3, ranks=(1, 0, 0), children=(3, 2, 1, 0))
    # (1, 0) is in the tree, the third draft comes with them, and the last token in a round of its own.
    whole = 2.5 + 0.25 + 0.5
    assert replayed_seconds([one], CURVE, 4, tree=PART) == pytest.approx(2 * whole)
    # Without (1, 0): three rounds, of one accepted draft, of none, and of the last token.
    assert replayed_seconds([one], CURVE, 3, tree=PART) == pytest.approx(2 * (1.5 + 0.25 + 0.5))
    assert replayed_seconds([one], CURVE, 0, tree=PART) == 4.0
    # More drafts than the tree has are never made.
    assert replayed_seconds([one], CURVE, 7, tree=PART) == pytest.approx(2 * whole)
