"""StageReport: how one stage compares with what came before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ptgc.compiler.checking.fidelity import Fidelity

EXACT = 5e-3
"""Logit difference of two float32 computations that are the same model."""


@dataclass
class StageReport:
    """How one stage compares with the original."""

    stage: str
    """Which stage."""
    exact: bool = True
    """Whether it must give the original's tokens."""
    tokens: int = 0
    """New tokens compared."""
    kept: int = 0
    """Of them, how many are the original's, each given the original's text before it."""
    largest_difference: float = 0.0
    """Largest difference of the logits that are compared."""
    divergences: list[str] = field(default_factory=list)
    """What differs, where nothing may."""
    undecided: list[str] = field(default_factory=list)
    """Where texts part because two tokens are equally likely there, at this precision."""
    hint: str = ""
    """Which part of the graph to look at."""
    fidelity: Fidelity | None = None
    """What a build that rounds has kept of the original's distribution."""

    @property
    def passed(self) -> bool:
        """Whether nothing differs that may not."""
        return not self.divergences

    @property
    def verdict(self) -> str:
        """In a word."""
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
