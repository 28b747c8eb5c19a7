"""Tuning: the best settings of a build on this device, as found by `ptgc tune`."""

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
    """Default settings for loading a build on this device."""

    num_threads: Annotated[int, Range(1, MAX_THREADS)]
    """Threads of the engine."""
    num_draft_tokens: Annotated[int, Range(0, MAX_TREE_NODES - 1)]
    """Most draft tokens per round; 0 decodes plainly."""
    acceptance: Annotated[tuple[Annotated[float, Range(0, 1)], ...], Count(0, MAX_TREE_NODES)]
    """The shares of rounds with drafts that accepted at least 1, 2, ... draft tokens."""
    prompts: dict[str, Sha256]
    """sha256 of the prompt files used for tuning, by name."""
    overlap: bool = False
    """Whether drafts are made while the target verifies."""

    def most_draft_tokens(self, plan: DecodePlan) -> int:
        """Most draft tokens per round, never more than the bundle's plan has."""
        return min(self.num_draft_tokens, plan.drafter.num_draft_tokens)

    def overlaps(self, plan: DecodePlan) -> bool:
        """Whether drafts are made while the target verifies, if the bundle's plan allows it."""
        return self.overlap and plan.drafter.parts[-1].overlap


def write_tuning(build: Build, tuning: Tuning) -> None:
    """Store the settings found by tuning."""
    write_measured(build, _NAME, asdict(tuning))


def read_tuning(build: Build) -> Tuning | None:
    """The settings found for this build on this device, or None."""
    return next(read_measured(build, _NAME, Tuning), None)
