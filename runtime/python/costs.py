"""The cost curve of a build on this device: kept beside the build, or in the user's cache where that is read-only."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ptgc.spec.bundle import MEASURED, Build
from ptgc.spec.manifest import dumps


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


def cache_directory() -> Path:
    """Where ptgc keeps what can be made again: `$PTGC_CACHE`, or `ptgc` in the user's cache folder."""
    base = os.environ.get("PTGC_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptgc"


def _places(build: Build, num_threads: int) -> tuple[Path, Path]:
    from ptgc.runtime._core import device_fingerprint

    name = f"{device_fingerprint()}-t{num_threads}.json"
    key = f"{build.manifest.bundle_sha256[:16]}-{build.manifest.id}-{build.manifest.sequence}"
    return build.path / MEASURED / name, cache_directory() / MEASURED / key / name


def write_costs(build: Build, curve: CostCurve) -> Path:
    """Keep a curve, beside the build where that can be written."""
    document = dumps({**asdict(curve), "build": build.manifest.id, "sequence": build.manifest.sequence})
    beside, cached = _places(build, curve.num_threads)
    for place in (beside, cached):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = place.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(document, encoding="utf-8")
            partial.replace(place)
            return place
        except OSError:
            if place is cached:
                raise
    raise AssertionError("the last place either returns or raises")


def _rounds(data: dict[str, Any]) -> dict[int, RoundCost]:
    return {int(width): RoundCost(**cost) for width, cost in data.items()}


def read_costs(build: Build, num_threads: int) -> CostCurve | None:
    """The curve measured for this build on this device with as many threads, or None."""
    for place in _places(build, num_threads):
        try:
            data = json.loads(place.read_text(encoding="utf-8"))
            if data["sequence"] != build.manifest.sequence:
                continue
            return CostCurve(
                int(data["num_threads"]),
                int(data["past_length"]),
                _rounds(data["rounds"]),
                _rounds(data["drafter_rounds"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # nothing measured here yet, or a damaged file: choices then fall back to a model of the cost
    return None
