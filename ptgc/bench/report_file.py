"""A report's file, and the progress of measuring it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ptgc.errors import StorageError
from ptgc.spec.output import check_output_file, write_output


@contextmanager
def progress_bar(console: Console, title: str, total: int) -> Iterator[Callable[[], None]]:
    """A callable that counts a step; shows a bar on a terminal, and occasional lines elsewhere."""
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
    """Check before measuring that the report can be written.

    Raises:
        StorageError: Its folder is missing, the path is a folder, or it cannot be written.
    """
    if path is not None and not path.absolute().parent.is_dir():
        raise StorageError(f"Cannot write the report {path}: no such folder.", "Name another file with --report.")
    check_output_file(path)


def write_report(report: dict[str, Any], path: Path | None) -> None:
    """Write the JSON report, if a file was given.

    Raises:
        StorageError: It cannot be written.
    """
    if path is not None:
        write_output(path, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
