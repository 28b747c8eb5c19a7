"""Rounds: when an engine's tokens became known, and how many at once."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ptgc.bench.engines.base import Written


class Rounds:
    """The rounds of one text; made when its prompt is given to the engine, and told of the tokens of each round."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._known: list[tuple[float, int]] = []

    @property
    def count(self) -> int:
        """Rounds so far; the first one is prefill."""
        return len(self._known)

    def add(self, count: int) -> None:
        """Record that so many tokens became known."""
        self._known.append((time.perf_counter(), count))

    def written(self, token_ids: Sequence[int], *, drafted: int = 0) -> Written:
        """The text, which is complete now, and its costs.

        Args:
            token_ids: Its tokens.
            drafted: Draft tokens verified, if known.
        """
        end = time.perf_counter()
        (first, known), further = self._known[0], self._known[1:]
        decoded = len(token_ids) - known
        return Written(
            token_ids=list(token_ids),
            prefill_seconds=first - self._start,
            decode_seconds=end - first,
            decode_tokens=decoded,
            rounds=len(further),
            drafted_tokens=drafted,
            accepted_tokens=decoded - len(further),
        )
