"""ptgc's own runtime as an engine of the benchmark."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ptgc.bench.engines.base import Written
from ptgc.runtime import Generator
from ptgc.runtime._core import Request
from ptgc.runtime._core import Statistics as CoreStatistics
from ptgc.spec.loop import Loop

PLAIN = "plain"
"""The mode that decodes without drafts; any other mode is the bundle's strategy."""


class PtgcEngine:
    """A build of a bundle.

    Args:
        bundle: The bundle's directory.
        build: Name of the build.
        num_threads: Threads of the engine.
        draft_length: As in `LoadOptions`.
        datastore: As in `LoadOptions`.
    """

    def __init__(
        self,
        bundle: str,
        build: str,
        num_threads: int,
        draft_length: str | None = None,
        datastore: str | None = None,
    ) -> None:
        self._generator = Generator(
            bundle, build=build, num_threads=num_threads, draft_length=draft_length, datastore=datastore
        )
        self.writes_on = self._generator.bundle.manifest.plan.loop is Loop.SPECULATIVE

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> Written:
        """Write one text with the bundle's strategy, or plainly."""
        if not self.writes_on:
            return self._write_whole(ids, max_new_tokens)
        request = Request(list(ids), max_new_tokens, plain=mode == PLAIN)
        first: list[tuple[float, int]] = []

        def on_tokens(_index: int, new_ids: Sequence[int]) -> bool:
            if not first:
                first.append((time.perf_counter(), len(new_ids)))
            return True

        start = time.perf_counter()
        result = self._generator.core.generate([request], on_tokens)[0]
        end = time.perf_counter()
        known_at, known = first[0]
        did = result.statistics
        return Written(
            token_ids=list(result.token_ids),
            prefill_seconds=known_at - start,
            decode_seconds=end - known_at,
            decode_tokens=len(result.token_ids) - known,
            rounds=did.rounds,
            drafted_tokens=did.drafted_tokens,
            accepted_tokens=did.accepted_tokens,
            host_overhead=_host_overhead(did),
        )

    def _write_whole(self, ids: Sequence[int], max_new_tokens: int) -> Written:
        """Write a text whose tokens appear together, so that all of its time is decoding."""
        start = time.perf_counter()
        result = self._generator.generate(list(ids), max_new_tokens=max_new_tokens)
        end = time.perf_counter()
        did = result.statistics
        return Written(
            token_ids=result.token_ids,
            prefill_seconds=0.0,
            decode_seconds=end - start,
            decode_tokens=len(result.token_ids),
            rounds=did.rounds,
            host_overhead=max(0.0, 1.0 - did.engine_seconds / (end - start)),
        )


def _host_overhead(did: CoreStatistics) -> float | None:
    if did.decode_seconds <= 0:
        return None
    return (did.decode_seconds - did.engine_seconds) / did.decode_seconds
