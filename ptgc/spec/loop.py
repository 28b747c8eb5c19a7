"""The four loops."""

from __future__ import annotations

from enum import Enum


class Loop(str, Enum):
    """The four loops that every strategy is one of."""

    SPECULATIVE = "speculative"
    CANVAS = "canvas"
    EDIT = "edit"
    ONE_SHOT = "one-shot"
