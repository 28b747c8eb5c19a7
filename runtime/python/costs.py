"""The cost curve of a build on this device."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ptgc.runtime.measured import read_measured, write_measured
from ptgc.spec.bundle import Build


@dataclass(frozen=True)
class RoundCost:
    """Seconds of a bare engine run at one width."""

    median: float
    """The figure that choices are made with."""
    minimum: float
    """The fastest run."""
    maximum: float
    """The slowest run."""
    repeats: int
    """Runs."""


@dataclass(frozen=True)
class CostCurve:
    """What rounds cost on one device."""

    num_threads: int
    """Threads of the engine."""
    past_length: int
    """Tokens in the cache while measuring."""
    rounds: dict[int, RoundCost]
    """Of the target, by number of tokens in the round."""
    drafter_rounds: dict[int, RoundCost] = field(default_factory=dict)
    """Of a drafter that runs a model."""

    def medians(self) -> dict[int, float]:
        """Seconds of the target by width; none costs more than a wider one, in which its rows would fit as well."""
        return _medians(self.rounds)

    def medians_by_role(self) -> dict[str, dict[int, float]]:
        """The same for every role that was measured."""
        found = {"target": _medians(self.rounds)}
        if self.drafter_rounds:
            found["drafter"] = _medians(self.drafter_rounds)
        return found


def _medians(rounds: dict[int, RoundCost]) -> dict[int, float]:
    found: dict[int, float] = {}
    least = float("inf")
    for width in sorted(rounds, reverse=True):
        least = min(least, rounds[width].median)
        found[width] = least
    return dict(sorted(found.items()))


def write_costs(build: Build, curve: CostCurve) -> Path:
    """Keep a curve, beside the build where that can be written."""
    return write_measured(build, f"t{curve.num_threads}", asdict(curve))


def _rounds(data: dict[str, Any]) -> dict[int, RoundCost]:
    return {int(width): RoundCost(**cost) for width, cost in data.items()}


def read_costs(build: Build, num_threads: int) -> CostCurve | None:
    """The curve measured for this build on this device with as many threads, or None."""
    for data in read_measured(build, f"t{num_threads}"):
        try:
            return CostCurve(
                int(data["num_threads"]),
                int(data["past_length"]),
                _rounds(data["rounds"]),
                _rounds(data["drafter_rounds"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return None
