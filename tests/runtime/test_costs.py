"""Cost curves from quiet and from busy machines, and the costs that follow from each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ptgc.compiler.tuning import cost
from ptgc.compiler.tuning.prediction import best_pace
from ptgc.runtime.costs import CostCurve, RoundCost, read_costs, write_costs
from ptgc.spec.bundle import open_bundle
from tests.bundles import build_id, own_copy

QUIET = {1: RoundCost(1.0, 0.98, 1.3, 9, 0.05), 8: RoundCost(1.2, 1.18, 1.5, 9, 0.05)}
BUSY = {1: RoundCost(1.1, 1.0, 3.0, 9, 0.2), 8: RoundCost(5.0, 1.2, 9.0, 9, 0.9)}
INVERTED = {1: RoundCost(2.0, 1.0, 3.0, 9, 0.2), 8: RoundCost(1.2, 1.2, 9.0, 9, 0.2)}


@pytest.mark.parametrize(("rounds", "noisy"), [(QUIET, False), (BUSY, True), (INVERTED, True)])
def test_runs_that_differ_or_narrow_rounds_that_take_longer_are_noise(
    rounds: dict[int, RoundCost], noisy: bool
) -> None:
    assert CostCurve(2, 256, rounds).is_noisy == noisy
    assert CostCurve(2, 256, QUIET, rounds).is_noisy == noisy


def test_prefill_widths_are_no_noise() -> None:
    assert not CostCurve(2, 256, QUIET | {64: RoundCost(1.0, 0.5, 9.0, 3)}).is_noisy


def test_a_busy_machine_does_not_turn_drafts_off() -> None:
    by_medians = CostCurve(2, 256, {width: RoundCost(c.median, c.median, c.median, 9) for width, c in BUSY.items()})
    assert best_pace(by_medians, 7).num_draft_tokens == 0
    noisy = CostCurve(2, 256, BUSY)
    assert noisy.medians() == {1: 1.0, 8: 1.2}
    assert best_pace(noisy, 7).num_draft_tokens == 7


def test_noise_is_kept_with_the_curve(place: Path, tmp_path: Path) -> None:
    build = open_bundle(own_copy(place, tmp_path / "bundle")).build(build_id("float32", 1))
    rounds = dict.fromkeys(build.manifest.shapes.roles["target"].widths, BUSY[8])
    written = write_costs(build, CostCurve(1, 256, rounds)).read_text()
    assert '"noisy": true' in written
    found = read_costs(build, 1)
    assert found is not None and found.is_noisy and found.rounds == rounds


def test_rounds_of_a_busy_machine_are_measured_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = open_bundle(own_copy(place, tmp_path / "bundle")).build(build_id("float32", 1))
    measured: list[dict[int, RoundCost]] = [BUSY, QUIET]
    given = measured.copy()
    monkeypatch.setattr(cost, "_measure_role", lambda *_: given.pop(0))
    monkeypatch.setattr(cost, "_LONGEST_PAUSE", 0.0)
    said: list[str] = []
    say: Callable[[str], None] = said.append
    assert cost.measure_costs(build, 1, say).rounds == QUIET
    assert any("busy" in line for line in said)
    given = [INVERTED, BUSY, INVERTED]
    found = cost.measure_costs(build, 1, say)
    assert found.is_noisy and found.rounds == INVERTED
    assert "choices go by the fastest runs" in said[-1]
