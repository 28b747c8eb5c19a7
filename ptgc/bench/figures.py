"""The arithmetic of the benchmarks: medians, spreads, ratios, orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TypeVar

Item = TypeVar("Item")

COPIED_RUN = 4
"""Length of a run of tokens that counts as copied if the prompt contains it."""


@dataclass(frozen=True)
class Spread:
    """A figure and its variation."""

    median: float
    """The median."""
    minimum: float
    """The smallest one."""
    maximum: float
    """The largest one."""

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """The spread of one or more figures."""
        found = sorted(values)
        return Spread(median(found), found[0], found[-1])

    @property
    def relative(self) -> float:
        """Largest minus smallest, as a share of the median."""
        return (self.maximum - self.minimum) / self.median

    def to_json(self) -> dict[str, float]:
        """This as reports have it."""
        return asdict(self)


def rotated(items: Sequence[Item], turn: int) -> list[Item]:
    """The items rotated by one more every turn, so that none is always first or last."""
    start = turn % len(items)
    return [*items[start:], *items[:start]]


def ratios(numerators: Mapping[str, float], denominators: Mapping[str, float]) -> dict[str, float]:
    """The ratio for each prompt; both mappings have the same prompts."""
    return {name: value / denominators[name] for name, value in numerators.items()}


def copied_share(prompt_ids: Sequence[int], new_ids: Sequence[int], run: int = COPIED_RUN) -> float:
    """The share of new tokens that are part of a run of tokens that the prompt also contains."""
    if not new_ids:
        return 0.0
    known = {tuple(prompt_ids[at : at + run]) for at in range(len(prompt_ids) - run + 1)}
    copied: set[int] = set()
    for at in range(len(new_ids) - run + 1):
        if tuple(new_ids[at : at + run]) in known:
            copied.update(range(at, at + run))
    return len(copied) / len(new_ids)
