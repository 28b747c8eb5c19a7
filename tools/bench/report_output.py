"""What the benchmarks share with their terminal: options, errors, progress, reports."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ptgc.errors import PtgcError, StorageError

_WIDTH = 120
_OTHER = "Name another file with --report."


@dataclass
class ExitStatus:
    """How a script ends."""

    code: int = 0
    """0, 1 for what the user can fix, 130 when interrupted."""


@contextmanager
def report_errors() -> Iterator[ExitStatus]:
    """Prints errors that the user can fix, without a traceback, and remembers the exit status."""
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
    """Where tables go: stdout, as wide as they need where that is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


@contextmanager
def progress_bar(console: Console, title: str, total: int) -> Iterator[Callable[[], None]]:
    """A callable that counts a step; shows a bar on a terminal, and a line now and then elsewhere."""
    if not console.is_terminal:
        yield _line_counter(console, title, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=1) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


def _line_counter(console: Console, title: str, total: int) -> Callable[[], None]:
    done = 0
    step = max(1, total // 10)

    def advance() -> None:
        nonlocal done
        done += 1
        if done % step == 0 or done == total:
            console.print(f"{title}: {done} of {total}", markup=False)

    return advance


def check_report(path: Path | None) -> None:
    """Find out before measuring whether the report can be written.

    Raises:
        StorageError: Its folder is missing, or it is a folder itself.
    """
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise StorageError(f"Cannot write the report {path}: no such folder, or a folder itself.", _OTHER)


def write_report(report: dict[str, Any], path: Path | None) -> None:
    """Write the JSON report, if a file was named.

    Raises:
        StorageError: It cannot be written.
    """
    if path is None:
        return
    try:
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"Cannot write the report {path}: {error}.", _OTHER) from error


def positive(text: str) -> int:
    """A number of 1 or more, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
