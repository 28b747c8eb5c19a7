"""Stage: how far a build goes."""

from __future__ import annotations

from enum import Enum


class Stage(str, Enum):
    """How far a build goes."""

    PREPARE = "prepare"
    """Lower and quantise; needs no device."""
    COMPILE = "compile"
    """Make engines of a prepared build, and measure them here."""
    ALL = "all"
    """Both."""
