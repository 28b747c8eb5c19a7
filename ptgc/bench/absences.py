"""Absences: peers that do not take part in a benchmark, or drop out of it."""

from __future__ import annotations

from rich.console import Console

from ptgc.errors import PtgcError


class Absences:
    """Which contestants are missing in the rows, and why.

    Args:
        notes: The console on which absences are reported at once.
        named: Whether the user named the peers; then all of them must be able to start.
    """

    def __init__(self, notes: Console, *, named: bool = False) -> None:
        self.found: list[dict[str, str]] = []
        """The entries of the report: `engine`, `reason` and `action`."""
        self._notes = notes
        self._named = named

    def add(self, name: str, reason: str, action: str = "") -> None:
        """Record a contestant that does not take part, or no longer does."""
        self._notes.print(f"Without {name}: {reason} {action}".rstrip(), markup=False, soft_wrap=True)
        self.found.append({"engine": name, "reason": reason, "action": action})

    def cannot_begin(self, name: str, error: PtgcError, *, is_own: bool = False) -> None:
        """Record a contestant that failed before anything was measured.

        Raises:
            PtgcError: The given error, if the contestant is ptgc or peers were named.
        """
        if is_own or self._named:
            raise error
        self.add(name, error.message, error.action)

    def fell_out(self, name: str, error: PtgcError, *, is_own: bool) -> None:
        """Record a contestant that failed after others were measured; their measurements must not be lost.

        Raises:
            PtgcError: The given error, if the contestant is ptgc.
        """
        if is_own:
            raise error
        self.add(name, error.message, error.action)
