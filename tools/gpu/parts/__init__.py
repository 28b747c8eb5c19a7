"""The parts of `make gpu` with their names and time limits, the most important first."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from parts.base import Figures, Settings


@dataclass(frozen=True)
class Part:
    """One part: the module `parts.NAME` with a function `measure(settings, figures, subject)`.

    A module with a function `subjects(settings)` is run once for each subject, each time in a separate process.
    """

    name: str
    """Name of the module and on the command line."""
    seconds: float
    """Time limit of one of its processes."""
    rest_last: bool = False
    """Whether all subjects but the first wait until every other part has run."""
    in_rehearsal: bool = True
    """Whether a rehearsal on the CPU runs it by default."""

    def subjects(self, settings: Settings) -> Sequence[str]:
        """The subjects that the part is run for; one empty name if it has none."""
        try:
            module = importlib.import_module(f"parts.{self.name}")
        except ImportError:
            return [""]  # its own process will say what is missing
        found = getattr(module, "subjects", None)
        return [""] if found is None else list(found(settings))

    def measure(self, settings: Settings, figures: Figures, subject: str) -> None:
        """Run the part in this process."""
        importlib.import_module(f"parts.{self.name}").measure(settings, figures, subject)


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("machine", 40),
        Part("bandwidth", 60),
        Part("exactness", 100, rest_last=True),
        Part("rounds", 60),
        Part("large_model", 170),
        Part("peers", 170),
        Part("tensorrt", 90),
        Part("tests", 120, in_rehearsal=False),
    )
}
