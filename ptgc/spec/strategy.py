"""Strategies, loops and drafters by name."""

from __future__ import annotations

from enum import Enum


class Loop(str, Enum):
    """The four loops that every strategy is one of."""

    SPECULATIVE = "speculative"
    CANVAS = "canvas"
    EDIT = "edit"
    ONE_SHOT = "one-shot"


class Strategy(str, Enum):
    """How a bundle generates. The values are the names on the command line."""

    AUTOREGRESSIVE = "autoregressive"
    NGRAM = "ngram"

    @property
    def loop(self) -> Loop:
        """The loop that runs this strategy."""
        return Loop.SPECULATIVE

    @property
    def lossless(self) -> bool:
        """Whether the text is that of plain decoding of the same build."""
        return True


class DrafterKind(str, Enum):
    """Where draft tokens come from."""

    NONE = "none"
    NGRAM = "ngram"
