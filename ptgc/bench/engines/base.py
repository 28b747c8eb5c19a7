"""Engine: what a worker asks of whatever it measures, and what it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Written:
    """One text and what it took."""

    token_ids: list[int]
    """The new tokens."""
    prefill_seconds: float
    """Until the first of them was known."""
    decode_seconds: float
    """From then until the last one was known."""
    decode_tokens: int
    """Tokens written in that time: those that were known together with the first one do not count."""
    rounds: int
    """Rounds of decoding in that time."""
    drafted_tokens: int = 0
    """Draft tokens verified."""
    accepted_tokens: int = 0
    """Draft tokens kept."""
    host_overhead: float | None = None
    """Share of decoding outside the engine, where the engine tells."""


class Engine(Protocol):
    """A loaded model that writes texts."""

    writes_on: bool
    """Whether every text has as many tokens as asked for; loops that settle the length themselves do not."""

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> Written:
        """Write one text greedily.

        Args:
            ids: The prompt.
            max_new_tokens: Tokens to write.
            mode: One of the engine's ways to decode.
        """
        ...
