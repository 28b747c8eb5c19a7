"""Ends the program cleanly after a signal, a closed pipe, or output that cannot be written.

Exit statuses (docs/commands.md): 0 done; 1 an error that the user can fix; 2 wrong usage; 3 our own bug; 128 plus the
signal's number after a signal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import NoReturn

from ptgc.spec.interruption import SIGNALS, Interrupted

FAILED = 1
"""Exit status of an error that the user can fix."""

_received: list[int] = []
"""Signals that have asked this process to end."""


@contextlib.contextmanager
def ends_cleanly() -> Iterator[None]:
    """Run the program; however it ends, it exits with the right status and without a traceback."""
    _open_standard_streams()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)
    sys.unraisablehook = _repeat_ignored
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except Interrupted as interrupted:
        _ignore_signals()
        _say("Interrupted." if interrupted.number == signal.SIGINT else "Terminated.")
        _end(128 + interrupted.number)
    except BrokenPipeError:
        _ignore_signals()
        _end(128 + signal.SIGPIPE)
    except OSError as error:
        _ignore_signals()
        _say(f"Error: Cannot write the output: {error.strerror}.")
        _end(FAILED)


def repeat_interruption() -> None:
    """Raise `Interrupted` again if a library has turned it into an error of its own."""
    if _received:
        raise Interrupted(_received[0])


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _loads_extension(frame):
        _send_again(number)
        return
    _received.append(number)
    raise Interrupted(number)


def _loads_extension(frame: FrameType | None) -> bool:
    """Whether a C extension is being initialised, which may not survive an exception."""
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    threading.Timer(0.01, os.kill, (os.getpid(), number)).start()


def _repeat_ignored(ignored: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception Python ignored, since it was raised in a finaliser or a callback."""
    if isinstance(ignored.exc_value, Interrupted):
        _send_again(ignored.exc_value.number)
    else:
        sys.__unraisablehook__(ignored)


def _ignore_signals() -> None:
    """Ignore further signals: the rest takes no time, and a second signal would show a traceback."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end(status: int) -> NoReturn:
    """Exit without flushing stdout: the interpreter would try again, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    sys.exit(status)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _open_standard_streams() -> None:
    """Open closed standard streams, whose descriptors would otherwise go to the next opened files."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor is this one
            assert opened == number
            setattr(sys, name, os.fdopen(opened, mode, encoding="utf-8"))
