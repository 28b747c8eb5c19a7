"""Engine: the interface between a worker and the engine that it measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Written:
    """One text and its costs."""

    token_ids: list[int]
    """The new tokens."""
    prefill_seconds: float
    """Time until the first of them was known."""
    decode_seconds: float
    """Time from then until the last one was known."""
    decode_tokens: int
    """Tokens written in that time, without those that were known together with the first one."""
    rounds: int
    """Rounds of decoding in that time."""
    drafted_tokens: int = 0
    """Draft tokens verified."""
    accepted_tokens: int = 0
    """Draft tokens accepted."""
    host_overhead: float | None = None
    """Share of decoding time outside the engine; None if unknown."""


class Engine(Protocol):
    """A loaded model that writes texts."""

    writes_on: bool
    """Whether every text has exactly as many tokens as requested; false for loops that choose the length."""

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> Written:
        """Write one text greedily.

        Args:
            ids: The prompt.
            max_new_tokens: Tokens to write.
            mode: One of the engine's ways to decode.
        """
        ...
