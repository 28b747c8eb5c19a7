"""StageReport: how one stage compares with what came before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ptgc.compiler.checking.fidelity import Fidelity

EXACT = 5e-3
"""Largest logit difference at which two float32 computations count as the same model."""


@dataclass
class StageReport:
    """How one stage compares with the original."""

    stage: str
    """Which stage."""
    exact: bool = True
    """Whether the stage must give the original's tokens."""
    tokens: int = 0
    """New tokens compared."""
    kept: int = 0
    """How many of them are the original's, each predicted after the original's text."""
    largest_difference: float = 0.0
    """Largest difference of the compared logits."""
    divergences: list[str] = field(default_factory=list)
    """Differences that are errors."""
    undecided: list[str] = field(default_factory=list)
    """Places where texts differ because two tokens are equally likely at this precision."""
    hint: str = ""
    """Which part of the graph to look at."""
    fidelity: Fidelity | None = None
    """How closely a quantised build keeps the original's distribution."""

    @property
    def passed(self) -> bool:
        """Whether there are no divergences."""
        return not self.divergences

    @property
    def verdict(self) -> str:
        """The result in one word."""
        if not self.passed:
            return "differs"
        if not self.tokens and not self.largest_difference:
            return "fine"
        return "exact" if self.exact else "consistent"

    def to_json(self) -> dict[str, Any]:
        """This stage as `ptgc check --json` prints it."""
        return {
            "stage": self.stage,
            "passed": self.passed,
            "tokens": self.tokens,
            "kept": self.kept,
            "largest_difference": self.largest_difference,
            "divergences": self.divergences,
            "undecided": self.undecided,
            "hint": self.hint,
            "fidelity": self.fidelity and self.fidelity.to_json(),
        }
