"""Acceptance rules by name."""

from __future__ import annotations

from enum import Enum


class AcceptanceRule(str, Enum):
    """How a proposal is compared with the target."""

    GREEDY = "greedy"
    """The longest path whose every token is the target's argmax after its parent; lossless."""
