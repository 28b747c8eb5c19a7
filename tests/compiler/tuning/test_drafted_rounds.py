"""The cost of rounds if fewer drafts had been made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ptgc.compiler.tuning.drafted_rounds import DraftedRound, accepted_shares, predicted_seconds, replayed_seconds
from ptgc.runtime.costs import CostCurve, RoundCost

COSTS = {1: 1.0, 2: 1.25, 4: 1.5, 8: 2.5}
CURVE = CostCurve(2, 256, {width: RoundCost(one, one, one, 1) for width, one in COSTS.items()})


@some.composite
def drafted(draw: some.DrawFn) -> DraftedRound:
    number = draw(some.integers(0, 7))
    return DraftedRound(number, draw(some.integers(0, number)))


@pytest.mark.parametrize(
    ("most", "seconds"),
    [
        (0, 6.0),  # 6 tokens, one by one
        (1, 3 * 1.25),  # 1 + 1, 1 + 1, 1 + 1
        (3, 1.5 + 1.5),  # 3 + 1, then 1 of the 3 drafts that were left
        (7, 2.5),
    ],
)
def test_what_was_accepted_is_drafted_again_in_the_next_round(most: int, seconds: float) -> None:
    assert replayed_seconds([DraftedRound(7, 5)], CURVE, most) == pytest.approx(seconds)


def test_drafts_that_are_refused_cost_what_is_tried_of_them() -> None:
    assert replayed_seconds([DraftedRound(7, 0)], CURVE, 3) == 1.5
    assert replayed_seconds([DraftedRound(0, 0)], CURVE, 3) == 1.0


def test_drafts_that_are_looked_up_cost_no_run_of_the_drafter() -> None:
    curve = replace(CURVE, drafter_rounds={1: RoundCost(0.25, 0.25, 0.25, 1)})
    looked_up, drafted = DraftedRound(3, 3, runs_drafter=False), DraftedRound(3, 3)
    assert replayed_seconds([looked_up], curve, 3) == 1.5
    assert replayed_seconds([drafted], curve, 3) == 1.5 + 3 * 0.25


@given(some.lists(drafted(), min_size=1, max_size=20))
def test_plain_decoding_is_a_round_a_token_and_all_drafts_are_the_rounds_themselves(rounds: list[DraftedRound]) -> None:
    tokens = sum(one.accepted + 1 for one in rounds)
    seconds = predicted_seconds(rounds, CURVE, 7)
    assert seconds[0] == pytest.approx(1.0)
    widths = [min(width for width in COSTS if width > one.drafted) for one in rounds]
    assert seconds[7] == pytest.approx(sum(COSTS[width] for width in widths) / tokens)


def test_shares_are_of_rounds_with_drafts() -> None:
    rounds = [DraftedRound(0, 0), DraftedRound(3, 2), DraftedRound(3, 0), DraftedRound(1, 1), DraftedRound(2, 2)]
    assert accepted_shares(rounds) == (0.75, 0.5)
    assert accepted_shares([DraftedRound(3, 0)]) == (0.0,)
    assert accepted_shares([DraftedRound(0, 0)]) == ()
