"""The cost curve of a build on this device."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from ptgc.runtime.measured import read_measured, write_measured
from ptgc.spec.bundle import Build
from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_COUNT, MAX_LENGTH, MAX_SECONDS, MAX_THREADS, MAX_WIDTH

_Seconds = Annotated[float, Range(1e-12, MAX_SECONDS)]
_Width = Annotated[int, Range(1, MAX_WIDTH)]


@dataclass(frozen=True)
class RoundCost:
    """Seconds of a bare engine run at one width."""

    median: _Seconds
    """The value that choices are made by."""
    minimum: _Seconds
    """The fastest run."""
    maximum: _Seconds
    """The slowest run."""
    repeats: Annotated[int, Range(1, MAX_COUNT)]
    """Number of runs."""
    spread: float = 0.0
    """Interquartile range of the runs over their median; 0 if no choice depends on them."""


MAX_NOISE = 0.3
"""Largest noise of an otherwise idle machine; the median of nine runs is then off by a tenth at most."""


@dataclass(frozen=True)
class CostCurve:
    """What rounds cost on one device.

    On a busy machine, rounds take longer than they should. Choices then go by the fastest runs, which were delayed
    least, because by the medians drafts might wrongly seem not to pay.
    """

    num_threads: Annotated[int, Range(1, MAX_THREADS)]
    """Threads of the engine."""
    past_length: Annotated[int, Range(0, MAX_LENGTH)]
    """Tokens in the cache while measuring."""
    rounds: dict[_Width, RoundCost]
    """Costs of the target's rounds, by number of tokens in the round."""
    drafter_rounds: dict[_Width, RoundCost] = field(default_factory=dict)
    """Costs of the drafter's rounds, if the drafter is a model; heads have one of one row."""

    @property
    def noise(self) -> float:
        """How much runs of one width differ, or how much more a round takes than a wider one, as a share."""
        by_role = (self.rounds, self.drafter_rounds)
        return max((max(_spread(rounds), _inversion(rounds)) for rounds in by_role if rounds), default=0.0)

    @property
    def is_noisy(self) -> bool:
        """Whether the machine was too busy for medians to be meaningful."""
        return self.noise > MAX_NOISE

    def medians(self) -> dict[int, float]:
        """Seconds of the target's rounds by width; none is above that of a wider round, which could be used instead."""
        return _seconds(self.rounds, is_noisy=self.is_noisy)

    def medians_by_role(self) -> dict[str, dict[int, float]]:
        """The same for every role that was measured."""
        found = {"target": self.medians()}
        if self.drafter_rounds:
            found["drafter"] = _seconds(self.drafter_rounds, is_noisy=self.is_noisy)
        return found


def _spread(rounds: dict[int, RoundCost]) -> float:
    return max(cost.spread for cost in rounds.values())


def _inversion(rounds: dict[int, RoundCost]) -> float:
    """By how much a median exceeds that of a wider round, as a share, among the rounds that choices depend on."""
    medians = [rounds[width].median for width in sorted(rounds) if rounds[width].spread > 0]
    return max((narrow / min(medians[n:]) - 1 for n, narrow in enumerate(medians)), default=0.0)


def _seconds(rounds: dict[int, RoundCost], *, is_noisy: bool) -> dict[int, float]:
    found: dict[int, float] = {}
    least = float("inf")
    for width in sorted(rounds, reverse=True):
        least = min(least, rounds[width].minimum if is_noisy else rounds[width].median)
        found[width] = least
    return dict(sorted(found.items()))


def _name(num_threads: int, drafter: str | None) -> str:
    """The name of a curve; each drafter that can take the first one's place has its own."""
    return f"t{num_threads}" if drafter in (None, "drafter") else f"t{num_threads}-{drafter}"


def write_costs(build: Build, curve: CostCurve, drafter: str | None = None) -> Path:
    """Store a curve, measured with the first drafter or this one, beside the build if that can be written."""
    return write_measured(build, _name(curve.num_threads, drafter), asdict(curve) | {"noisy": curve.is_noisy})


def read_costs(build: Build, num_threads: int, drafter: str | None = None) -> CostCurve | None:
    """The curve measured for this build on this device with these threads and this drafter (the first), or None."""
    widths = {role: set(shapes.widths) for role, shapes in build.manifest.shapes.roles.items()}
    drafting = {1} if "heads" in widths else widths.get("drafter", set())
    measured = (widths.get("target", set()), drafting)
    for curve in read_measured(build, _name(num_threads, drafter), CostCurve):
        if (set(curve.rounds), set(curve.drafter_rounds)) == measured:
            return curve
    return None
