"""Some of a model's layers, as users write them: 0-7,9,14."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ptgc.spec.limits import MAX_STATES

MAX_ALTERNATIVES = 16
"""Subsets of layers in one bundle."""
_EXAMPLES = "it must be layers such as 0-7 or 0-5,9,14; auto, or auto:8; or several of these with / between"


@dataclass(frozen=True)
class LayerSets:
    """Subsets of a model's layers, given or still to be searched for."""

    given: tuple[tuple[int, ...], ...]
    """Layer numbers, from 0 on, in order."""
    searched: tuple[int | None, ...] = ()
    """How many layers the subsets to be searched for have; None leaves the number to the search."""

    @staticmethod
    def parse(text: str) -> LayerSets:
        """Subsets as users write them.

        Raises:
            ValueError: They are none; the message names every problem and is the rest of a sentence.
        """
        problems: list[str] = []
        given: list[tuple[int, ...]] = []
        searched: list[int | None] = []
        for part in (one.strip() for one in text.split("/")):
            name, colon, count = part.partition(":")
            if name == "auto" and not colon:
                searched.append(None)
            elif name == "auto" and count.isdecimal() and 1 <= int(count) <= MAX_STATES:
                searched.append(int(count))
            else:
                given.append(_layers(part, problems))
        entries = [*(one for one in given if one), *searched]
        if len(set(entries)) < len(entries):
            problems.append("it has the same layers twice")
        if len(entries) > MAX_ALTERNATIVES:
            problems.append(f"it has {len(entries)} subsets; at most {MAX_ALTERNATIVES} are allowed")
        if problems:
            raise ValueError("; ".join(dict.fromkeys(problems)))
        return LayerSets(tuple(given), tuple(searched))

    def __str__(self) -> str:
        searched = ("auto" if count is None else f"auto:{count}" for count in self.searched)
        return "/".join([*map(spell_layers, self.given), *searched])


def _layers(text: str, problems: list[str]) -> tuple[int, ...]:
    """The layers that ranges name; none, with a problem added, if they are not in order."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdecimal() and len(end) <= len(str(MAX_STATES)) for end in ends):
            problems.append(
                f"'{text}' is no list of layers: {_EXAMPLES}" if text else f"a subset is empty: {_EXAMPLES}"
            )
            return ()
        start, stop = map(int, ends)
        if stop < start:
            problems.append(f"'{part.strip()}' ends before it begins")
            return ()
        if stop >= MAX_STATES:
            problems.append(f"layer {stop} is above {MAX_STATES - 1}, the most of any model")
            return ()
        found += range(start, stop + 1)
    problems += [
        f"layer {after} is named twice in '{text}'"
        if after == before
        else f"layer {after} follows {before} in '{text}'"
        for before, after in pairwise(found)
        if after <= before
    ]
    return tuple(found)


def spell_layers(layers: Sequence[int]) -> str:
    """Layers in order as users write them."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
