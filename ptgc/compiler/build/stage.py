"""Stage: which stages of a build run."""

from __future__ import annotations

from enum import Enum


class Stage(str, Enum):
    """Which stages of a build run."""

    PREPARE = "prepare"
    """Lower and quantise; needs no device."""
    COMPILE = "compile"
    """Make engines of a prepared build, and measure them here."""
    ALL = "all"
    """Both."""
