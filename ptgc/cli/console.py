"""Output of all commands: notes and progress on stderr, results on stdout, errors without tracebacks."""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from ptgc.cli.ending import repeat_interruption
from ptgc.errors import BackendError, PtgcError, StorageError, UsageError
from ptgc.extras import how_to_install
from ptgc.spec.bundle import Bundle
from ptgc.spec.storage_errors import storage_error

notes = Console(stderr=True, highlight=False)
results = Console(highlight=False)
if not results.is_terminal:
    results.width = 120  # a file or pipe has no window width


@contextmanager
def command_errors(as_json: bool = False) -> Iterator[None]:
    """Turn errors into exit statuses: 1 for what the user can fix, 2 for wrong usage, 3 for our own bugs."""
    try:
        yield
    except PtgcError as error:
        repeat_interruption()
        raise _exit(error, as_json) from error
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except Exception as error:  # a full disk without a known path, or our own bug, shown with its traceback
        repeat_interruption()
        named = getattr(error, "filename", None)
        meant = storage_error(Path(named or "."), error)
        if isinstance(meant, StorageError):
            if named is None:
                meant = StorageError(f"Cannot write: {error}.", "Make room, then run the command again.")
            raise _exit(meant, as_json) from error
        traceback.print_exc()
        if as_json:
            print_json({"error": {"code": "internal", "message": repr(error), "action": "Report this as a bug."}})
        raise typer.Exit(3) from error


def _exit(error: PtgcError, as_json: bool) -> typer.Exit:
    """Print what failed; returns the exit status."""
    if as_json:
        print_json({"error": {"code": error.code, "message": error.message, "action": error.action}})
    else:
        notes.print(f"Error: {error.message}", style="red", markup=False, soft_wrap=True)
        if error.action:
            notes.print(error.action, markup=False, soft_wrap=True)
    return typer.Exit(2 if isinstance(error, UsageError) else 1)


def compiler_missing(purpose: str, error: ImportError) -> BackendError:
    """The error of a command that needs the compiler's libraries; `purpose` begins its message."""
    return BackendError(
        f"{purpose} needs ONNX's Python packages: {error}.",
        f"Install them: {how_to_install('build')}. Without them, run, bench, tune, check, inspect and pack work with "
        "builds that are there.",
    )


def need_torch(purpose: str) -> None:
    """Refuse a command that reads checkpoints if the libraries for it are missing.

    Raises:
        BackendError: Says how to install them, and what works without them.
    """
    try:
        import torch  # noqa: F401  # only to check that it is installed
        import transformers  # noqa: F401
    except ImportError as error:
        raise BackendError(
            f"{purpose} needs PyTorch and transformers: {error}.",
            f"Install them: {how_to_install('export')}. Without them, every other command works with bundles that were "
            "exported elsewhere.",
        ) from error


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A callable that shows what is being done: a spinner on a terminal, else a line for each step."""
    if not notes.is_terminal:
        yield lambda step: notes.print(step, markup=False)
        return
    with notes.status("Starting") as status:
        yield lambda step: status.update(step)


def show_any_text() -> None:
    """Print "?" for characters that the terminal's encoding lacks, and for bytes of arguments that are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def note_refused(bundle: Bundle) -> None:
    """Print which builds were skipped because they cannot be read."""
    for name, error in bundle.read_builds()[1].items():
        notes.print(f"Note: build '{name}' was passed over: {error.message}", markup=False, soft_wrap=True)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    has_all_characters = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(document, ensure_ascii=not has_all_characters) + "\n")
    sys.stdout.flush()


def megabytes(size: int) -> str:
    """A size in megabytes, for people to read."""
    return f"{size / 1e6:,.1f} MB"
