"""Signals that end a program, and blocks during which they must wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a program to end."""


class Interrupted(BaseException):
    """A signal asked the program to end; unwinds the stack, so that every block cleans up.

    It is not a KeyboardInterrupt, which libraries turn into their own messages and exit statuses.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold these signals back until the block ends, which must be short: a few file system operations.

    Python handles signals in the main thread only, so there is nothing to hold back in others.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    handled = [number for number in SIGNALS if signal.getsignal(number) is not None]  # None: set by C
    previous = {number: signal.signal(number, lambda given, _: held.append(given)) for number in handled}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])
