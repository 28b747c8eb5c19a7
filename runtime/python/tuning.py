"""Tuning: how a build is best used on this device, as `ptgc tune` found it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from ptgc.runtime.measured import read_measured, write_measured
from ptgc.spec.bundle import Build
from ptgc.spec.fields import Count, Range, Sha256
from ptgc.spec.limits import MAX_THREADS, MAX_TREE_NODES
from ptgc.spec.plan import DecodePlan

_NAME = "tuning"


@dataclass(frozen=True)
class Tuning:
    """What a build is loaded with on this device, where nothing else is said."""

    num_threads: Annotated[int, Range(1, MAX_THREADS)]
    """Threads of the engine."""
    num_draft_tokens: Annotated[int, Range(0, MAX_TREE_NODES - 1)]
    """Most draft tokens of a round; 0 decodes plainly."""
    acceptance: Annotated[tuple[Annotated[float, Range(0, 1)], ...], Count(0, MAX_TREE_NODES)]
    """Share of rounds with drafts that kept so many draft tokens or more, from one on."""
    prompts: dict[str, Sha256]
    """sha256 of the files of prompts that it was found on, by name."""

    def most_draft_tokens(self, plan: DecodePlan) -> int:
        """Draft tokens of a round at most: never more than the bundle's plan has."""
        return min(self.num_draft_tokens, plan.drafter.num_draft_tokens)


def write_tuning(build: Build, tuning: Tuning) -> None:
    """Keep what was found."""
    write_measured(build, _NAME, asdict(tuning))


def read_tuning(build: Build) -> Tuning | None:
    """What was found for this build on this device, or None."""
    return next(read_measured(build, _NAME, Tuning), None)
