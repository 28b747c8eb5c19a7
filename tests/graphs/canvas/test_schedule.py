"""How many positions rounds fill; the runtime's test has the same figures."""

from __future__ import annotations

import pytest

from ptgc.graphs.canvas.schedule import BlockRounds, rounds_of_block
from ptgc.spec.canvas import CanvasPlan, Schedule


def _rounds(schedule: Schedule, length: int, masked: int, rounds: int) -> list[int]:
    block, found = BlockRounds(length, masked, rounds), list[int]()
    while sum(found) < masked and len(found) < rounds:
        found.append(block.fills(schedule, len(found), masked - sum(found)))
    return found


@pytest.mark.parametrize(
    ("schedule", "length", "masked", "rounds", "expected"),
    [
        (Schedule.LINEAR, 8, 8, 3, [3, 3, 2]),
        (Schedule.LINEAR, 8, 2, 4, [1, 1]),
        (Schedule.COSINE, 16, 16, 4, [2, 3, 5, 6]),
        (Schedule.COSINE, 4, 3, 9, [1, 1, 1]),
        (Schedule.PER_BLOCK, 8, 8, 3, [3, 3, 2]),
        (Schedule.PER_BLOCK, 8, 4, 3, [3, 1]),
    ],
)
def test_rounds_fill_what_the_sources_say(
    schedule: Schedule, length: int, masked: int, rounds: int, expected: list[int]
) -> None:
    assert _rounds(schedule, length, masked, rounds) == expected


@pytest.mark.parametrize("schedule", Schedule)
def test_every_round_fills_something_and_the_last_one_the_rest(schedule: Schedule) -> None:
    for masked in range(1, 21):
        for rounds in (1, 2, 3, 7, 25):
            found = _rounds(schedule, 20, masked, rounds)
            assert min(found) > 0 and sum(found) == masked


def test_steps_are_shared_by_blocks_or_counted_for_each() -> None:
    assert rounds_of_block(CanvasPlan(3, 10, 4), 3) == 3
    assert rounds_of_block(CanvasPlan(3, 2, 4), 3) == 1
    assert rounds_of_block(CanvasPlan(3, 10, 4, schedule=Schedule.PER_BLOCK), 3) == 10
