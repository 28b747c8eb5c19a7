"""What a part of `make gpu` is given, and where its figures go."""

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
"""Of a traceback: its end says what failed."""


@dataclass(frozen=True)
class Settings:
    """How a run measures; the same for all of its parts."""

    device: str
    """`cuda`, or `cpu` for a rehearsal."""
    work: str
    """Folder for what parts leave for each other; it is this run's own."""
    bundles: str | None = None
    """Folder with the bundles that write_bundles.py made, or None."""
    small: bool = False
    """Sizes and repeats that only show that everything runs."""
    parts: dict[str, Any] = field(default_factory=dict)
    """The report of the parts that ran before, by task."""

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second that the device's memory gave in this run; None where that was not measured."""
        found = self.parts.get("bandwidth", {}).get("bytes_per_second")
        return float(found) if found else None


class Skipped(Exception):  # noqa: N818 - nothing is wrong
    """A part that has nothing to do here; the message says what is missing."""


class Figures:
    """What a part measured, kept in a file from the first figure on: a part that is killed leaves what it had.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, Any] = {}
        self.failures: dict[str, str] = {}
        self.skipped: str | None = None

    def put(self, **values: Any) -> None:
        """Keep figures under their names."""
        self.values |= values
        self._write()

    def add(self, name: str, value: Any) -> None:
        """Keep one more figure of a list."""
        self.values.setdefault(name, []).append(value)
        self._write()

    def fail(self, name: str, text: str) -> None:
        """Keep what is wrong; the part is a failed one then."""
        self.failures[name] = text
        self._write()

    def skip(self, reason: str) -> None:
        """Keep why there was nothing to do."""
        self.skipped = reason
        self._write()

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """What fails in here is kept under a name, and the part goes on."""
        try:
            yield
        except Skipped:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is belongs into the report
            self.fail(name, describe(error))

    def _write(self) -> None:
        aside = self._path.with_suffix(".new")
        document = {"values": self.values, "failures": self.failures, "skipped": self.skipped}
        aside.write_text(json.dumps(document), encoding="utf-8")
        aside.replace(self._path)


def describe(error: BaseException) -> str:
    """An error as the report shows it: what the user can fix by its message, others with the end of their traceback."""
    if isinstance(error, PtgcError):
        return "\n".join(text for text in (error.message, error.action) if text)
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(lines[-_SHOWN_LINES:])
