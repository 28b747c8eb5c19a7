"""The settings of a part of `make gpu`, and the store for its figures."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptgc.errors import PtgcError

_SHOWN_LINES = 12
"""Last lines of a traceback, which say what failed."""


@dataclass(frozen=True)
class Settings:
    """How a run measures; the same for all of its parts."""

    device: str
    """`cuda`, or `cpu` for a rehearsal."""
    work: str
    """This run's own folder, in which parts leave files for each other."""
    bundles: str | None = None
    """Folder with the bundles that write_bundles.py made, or None."""
    small: bool = False
    """Whether to use sizes and repeats that only show that everything runs."""
    parts: dict[str, Any] = field(default_factory=dict)
    """The report of the parts that ran before, by task."""

    @property
    def bandwidth(self) -> float | None:
        """Measured bytes per second of the device's memory in this run; None if not measured."""
        found = self.parts.get("bandwidth", {}).get("bytes_per_second")
        return float(found) if found else None


class Skipped(Exception):  # noqa: N818 - nothing is wrong
    """A part that has nothing to do here; the message says what is missing."""


class Figures:
    """The measurements of a part, stored in a file from the first figure on, so that a killed part leaves what it had.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, Any] = {}
        self.failures: dict[str, str] = {}
        self.skipped: str | None = None

    def put(self, **values: Any) -> None:
        """Store figures under their names."""
        self.values |= values
        self._write()

    def add(self, name: str, value: Any) -> None:
        """Append a figure to a list."""
        self.values.setdefault(name, []).append(value)
        self._write()

    def fail(self, name: str, text: str) -> None:
        """Record a failure; the part then counts as failed."""
        self.failures[name] = text
        self._write()

    def skip(self, reason: str) -> None:
        """Record why there was nothing to do."""
        self.skipped = reason
        self._write()

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """While open, errors are recorded under a name, and the part goes on."""
        try:
            yield
        except Skipped:
            raise
        except Exception as error:  # noqa: BLE001 - every error belongs in the report
            self.fail(name, describe(error))

    def _write(self) -> None:
        aside = self._path.with_suffix(".new")
        document = {"values": self.values, "failures": self.failures, "skipped": self.skipped}
        aside.write_text(json.dumps(document), encoding="utf-8")
        aside.replace(self._path)


def describe(error: BaseException) -> str:
    """An error for the report: its message if the user can fix it, otherwise the end of its traceback."""
    if isinstance(error, PtgcError):
        return "\n".join(text for text in (error.message, error.action) if text)
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(lines[-_SHOWN_LINES:])
