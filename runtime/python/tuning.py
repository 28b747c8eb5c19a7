"""Tuning: how a build is best used on this device, as `ptgc tune` found it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ptgc.runtime.measured import read_measured, write_measured
from ptgc.spec.bundle import Build
from ptgc.spec.plan import DecodePlan

_NAME = "tuning"


@dataclass(frozen=True)
class Tuning:
    """What a build is loaded with on this device, where nothing else is said."""

    num_threads: int
    """Threads of the engine."""
    num_draft_tokens: int
    """Most draft tokens of a round; 0 decodes plainly."""
    acceptance: tuple[float, ...]
    """Share of rounds with drafts that kept so many draft tokens or more, from one on."""
    prompts: dict[str, str]
    """sha256 of the files of prompts that it was found on, by name."""

    def most_draft_tokens(self, plan: DecodePlan) -> int:
        """Draft tokens of a round at most: never more than the bundle's plan has."""
        return min(self.num_draft_tokens, plan.drafter.num_draft_tokens)


def write_tuning(build: Build, tuning: Tuning) -> None:
    """Keep what was found."""
    write_measured(build, _NAME, asdict(tuning))


def read_tuning(build: Build) -> Tuning | None:
    """What was found for this build on this device, or None."""
    for data in read_measured(build, _NAME):
        try:
            return Tuning(
                int(data["num_threads"]),
                int(data["num_draft_tokens"]),
                tuple(float(share) for share in data["acceptance"]),
                dict(data["prompts"]),
            )
        except (KeyError, TypeError, ValueError):
            continue
    return None
