"""Reads a bundle while another command may replace it, or a build in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ptgc.errors import PtgcError

_T = TypeVar("_T")
_ATTEMPTS = 3


def read_unreplaced(bundle: Path, read: Callable[[], _T]) -> _T:
    """Call `read`; if it fails because the bundle or a build was replaced meanwhile, call it again."""
    for _ in range(_ATTEMPTS - 1):
        before = _identity(bundle)
        try:
            return read()
        except PtgcError:
            if _identity(bundle) == before:
                raise
    return read()


def _identity(bundle: Path) -> dict[str, int]:
    """The inodes of the bundle and its builds, which change if a folder is replaced."""
    try:
        folders = [bundle, *(path for path in (bundle / "builds").glob("*") if not path.name.startswith("."))]
        return {str(path): path.stat().st_ino for path in folders}
    except OSError:
        return {}
