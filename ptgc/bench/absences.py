"""Peers that take no part in a benchmark, or not to its end."""

from __future__ import annotations

from rich.console import Console

from ptgc.errors import PtgcError


class Absences:
    """Who is missing in the rows, and why.

    Args:
        notes: Where it is said at once.
        named: Whether the user named the peers: then all of them must be able to begin.
    """

    def __init__(self, notes: Console, *, named: bool = False) -> None:
        self.found: list[dict[str, str]] = []
        """As the report has them: `engine`, `reason` and `action`."""
        self._notes = notes
        self._named = named

    def add(self, name: str, reason: str, action: str = "") -> None:
        """One that takes no part, or no longer."""
        self._notes.print(f"Without {name}: {reason} {action}".rstrip(), markup=False, soft_wrap=True)
        self.found.append({"engine": name, "reason": reason, "action": action})

    def cannot_begin(self, name: str, error: PtgcError, *, is_own: bool = False) -> None:
        """One that failed before anything was measured.

        Raises:
            PtgcError: The same one, where it is ptgc, or peers were named.
        """
        if is_own or self._named:
            raise error
        self.add(name, error.message, error.action)

    def fell_out(self, name: str, error: PtgcError, *, is_own: bool) -> None:
        """One that failed while others had been measured already, which must not be lost.

        Raises:
            PtgcError: The same one, where it is ptgc.
        """
        if is_own:
            raise error
        self.add(name, error.message, error.action)
