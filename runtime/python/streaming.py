"""Streams: one thread writes a text while another reads it."""

from __future__ import annotations

import atexit
import collections.abc
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from ptgc.errors import UsageError
from ptgc.runtime import _core
from ptgc.runtime.request import RunningText
from ptgc.runtime.results import Chunk

OnTokens = Callable[[int, Sequence[int]], bool]
OnFills = Callable[[int, Sequence[int], Sequence[int]], None]
Write = Callable[[OnTokens, _core.Cancellation, OnFills | None], _core.Result]

_workers: set[threading.Thread] = set()
_starting = threading.Lock()
"""Held while a worker is added and started: a thread that has not started cannot be joined."""


@atexit.register
def _end_calls() -> None:
    """End all calls at exit: Python must not be finalised while threads are in the core or returning from it."""
    _core.end_calls()
    with _starting:
        workers = list(_workers)
    for worker in workers:
        worker.join()


def stream(
    text: RunningText, write: Write, rewind: Callable[[int], None] | None = None, *, fills: bool = False
) -> collections.abc.Generator[Chunk]:
    """Write a text in a thread and yield its pieces; closing the stream cancels it.

    Args:
        text: The text.
        write: Writes the text; called in the thread.
        rewind: Drops tokens that were written but are not in any chunk that was yielded.
        fills: Whether there is also a chunk for every round that filled positions of a canvas.
    """
    pieces: SimpleQueue[Any] = SimpleQueue()
    cancellation = _core.Cancellation()

    def on_fills(_index: int, positions: Sequence[int], ids: Sequence[int]) -> None:
        pieces.put(Chunk("", [], filled_positions=list(positions), filled_ids=list(ids)))

    worker = _start(text, lambda on_tokens: write(on_tokens, cancellation, on_fills if fills else None), pieces)
    given, result = 0, None
    try:
        while isinstance(piece := pieces.get(), Chunk):
            given += len(piece.token_ids)
            yield piece
        if isinstance(piece, BaseException):
            raise piece
        result = piece
        shown = len(text.shown)
        finished = text.finish(result)
        given = len(finished.token_ids)
        _take_back(rewind, len(result.token_ids) - given)
        yield Chunk(finished.text[shown:], [], finished)
    finally:
        cancellation.cancel()
        # Garbage collection may close a stream within a callback, and the stream's thread may wait for that callback's
        # round.
        if not _core.is_inside_call():
            worker.join()
            if result is None:
                _take_back(rewind, _written(pieces) - given)


def _start(text: RunningText, write: Callable[[OnTokens], _core.Result], pieces: SimpleQueue[Any]) -> threading.Thread:
    def on_tokens(_index: int, ids: Sequence[int]) -> bool:
        shown, go_on = text.append(ids)
        pieces.put(Chunk(shown, list(ids)))
        return go_on

    def work() -> None:
        try:
            pieces.put(write(on_tokens))
        except BaseException as error:  # noqa: BLE001  # passed to the reader of the stream
            pieces.put(error)
        finally:
            _workers.discard(threading.current_thread())

    worker = threading.Thread(target=work, name="ptgc-stream", daemon=True)
    with _starting:
        _workers.add(worker)
        try:
            worker.start()
        except BaseException:
            _workers.discard(worker)
            raise
    return worker


def _take_back(rewind: Callable[[int], None] | None, num_tokens: int) -> None:
    if rewind is None or num_tokens <= 0:
        return
    with suppress(UsageError):  # the session was closed meanwhile, or the process is ending
        rewind(num_tokens)


def _written(pieces: SimpleQueue[Any]) -> int:
    """Number of tokens of a text that was not read to its end; 0 if it failed."""
    while not pieces.empty():
        piece = pieces.get()
        if isinstance(piece, _core.Result):
            return len(piece.token_ids)
    return 0
