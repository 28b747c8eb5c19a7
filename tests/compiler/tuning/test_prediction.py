"""The predicted cost of a token."""

from __future__ import annotations

import pytest

from ptgc.compiler.tuning.prediction import best_pace, expected_tokens, predicted_speedups, round_seconds
from ptgc.runtime.costs import CostCurve, RoundCost


def curve(target: dict[int, float], drafter: dict[int, float] | None = None) -> CostCurve:
    def rounds(seconds: dict[int, float]) -> dict[int, RoundCost]:
        return {width: RoundCost(one, one, one, 1) for width, one in seconds.items()}

    return CostCurve(2, 256, rounds(target), rounds(drafter or {}))


def test_a_round_gives_one_token_and_those_accepted_in_a_row() -> None:
    assert expected_tokens(0, 0.9) == 1
    assert expected_tokens(3, 0.5) == pytest.approx(1 + 0.5 + 0.25 + 0.125)
    assert expected_tokens(4, 1.0) == 5
    assert expected_tokens(4, 0.0) == 1


def test_a_round_is_as_wide_as_the_plan_allows() -> None:
    found = curve({1: 1.0, 4: 2.0, 8: 3.0}, {1: 0.25, 8: 0.5})
    assert round_seconds(found, 0) == 1.0
    assert round_seconds(found, 2) == 2.0 + 2 * 0.25
    assert round_seconds(found, 7) == 3.0 + 7 * 0.25
    assert round_seconds(found, 20) == 3.0 + 20 * 0.25


def test_a_drafter_of_blocks_runs_once_for_all_drafts() -> None:
    found = curve({1: 1.0, 4: 2.0, 8: 3.0}, {1: 0.25, 8: 0.5})
    assert round_seconds(found, 0, rows_at_once=5) == 1.0
    assert round_seconds(found, 2, rows_at_once=5) == 2.0 + 0.5
    assert round_seconds(found, 7, rows_at_once=5) == 3.0 + 0.5
    assert round_seconds(curve({1: 1.0, 4: 2.0}), 2, rows_at_once=5) == 2.0
    assert predicted_speedups(found, 7, 1.0, rows_at_once=5)[7] == pytest.approx(8 / 3.5)
    assert best_pace(found, 7, 0.9, rows_at_once=5).num_draft_tokens == 7


@pytest.mark.parametrize(("acceptance", "number"), [(0.0, 0), (0.3, 0), (0.8, 3), (1.0, 7)])
def test_the_best_number_of_drafts_follows_acceptance(acceptance: float, number: int) -> None:
    pace = best_pace(curve({1: 1.0, 4: 1.5, 8: 2.7}), 7, acceptance)
    assert pace.num_draft_tokens == number
