"""Loads a build and writes text: adds text, streaming and sessions to the C++ core."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptgc.runtime.generator import Generator
    from ptgc.runtime.results import Chunk, DraftCount, GenerationResult, RoundTrace, Statistics
    from ptgc.runtime.session import Session

__all__ = ["Chunk", "DraftCount", "GenerationResult", "Generator", "RoundTrace", "Session", "Statistics"]

_HOMES = {
    "Chunk": "results",
    "DraftCount": "results",
    "GenerationResult": "results",
    "Generator": "generator",
    "RoundTrace": "results",
    "Session": "session",
    "Statistics": "results",
}


def __getattr__(name: str) -> object:
    """Import the compiled core only when something in this package is used."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ptgc.runtime.{_HOMES[name]}"), name)
