"""The arithmetic of figures."""

from __future__ import annotations

import pytest

from ptgc.bench.figures import Spread, copied_share, ratios, rotated


def test_spread_has_the_median_and_both_ends() -> None:
    assert Spread.of([3, 1, 2, 10]) == Spread(2.5, 1, 10)


def test_relative_spread_is_a_share_of_the_median() -> None:
    assert Spread.of([9, 10, 12]).relative == pytest.approx(0.3)


def test_everyone_is_first_once_in_as_many_turns() -> None:
    assert [rotated("abc", turn) for turn in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_ratios_are_taken_prompt_by_prompt() -> None:
    assert ratios({"a": 3.0, "b": 1.0}, {"b": 2.0, "a": 2.0}) == {"a": 1.5, "b": 0.5}


@pytest.mark.parametrize(
    ("new_ids", "share"),
    [
        ([], 0.0),
        ([1, 2, 3], 0.0),
        ([1, 2, 3, 4], 1.0),
        ([9, 2, 3, 4, 5, 9, 9, 1], 0.5),
        ([1, 2, 3, 4, 5], 1.0),
    ],
)
def test_copied_share_counts_tokens_in_runs_of_the_prompt(new_ids: list[int], share: float) -> None:
    assert copied_share([1, 2, 3, 4, 5], new_ids) == share
