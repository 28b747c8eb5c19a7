"""Lowering: which operators a prepared graph may use."""

from __future__ import annotations

from enum import Enum


class Lowering(str, Enum):
    """Which operators a prepared graph may have."""

    NATIVE = "native"
    """Those that the newest version of the engine library runs best."""
    PORTABLE = "portable"
    """Opset 20 at most, for older versions: attention, cache updates, norms and rotary embeddings are written out."""
