"""Terminal handling shared by the scripts: options, errors, output of tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from ptgc.errors import PtgcError

_WIDTH = 120


@dataclass
class ExitStatus:
    """How a script ends."""

    code: int = 0
    """0, 1 for errors that the user can fix, 130 when interrupted."""


@contextmanager
def report_errors() -> Iterator[ExitStatus]:
    """Print errors that the user can fix without a traceback, and set the exit status."""
    status = ExitStatus()
    notes = Console(stderr=True, highlight=False)
    try:
        yield status
    except PtgcError as error:
        notes.print(f"Error: {error.message}", style="red", markup=False, soft_wrap=True)
        if error.action:
            notes.print(error.action, markup=False, soft_wrap=True)
        status.code = 1
    except KeyboardInterrupt:
        notes.print("Interrupted; no report was written.")
        status.code = 130


def result_console() -> Console:
    """The console for tables: stdout, with a fixed width if it is not a terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


def positive(text: str) -> int:
    """An integer of 1 or more, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
