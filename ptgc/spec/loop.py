"""The four loops."""

from __future__ import annotations

from enum import Enum


class Loop(str, Enum):
    """The four loops; every strategy uses one."""

    SPECULATIVE = "speculative"
    CANVAS = "canvas"
    EDIT = "edit"
    ONE_SHOT = "one-shot"
