"""Turns the system's errors about files that cannot be written into errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ptgc.errors import PtgcError, StorageError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
}
_LARGE = {errno.EFBIG: "the file is larger than is allowed here"}
_FAILED = {errno.EIO: "the disk reports an input/output error"}
_DENIED = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
}
_NO_SUCH_PLACE = {
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of the path is no folder",
    errno.EEXIST: "a part of the path is no folder",
    errno.ELOOP: "its links go in a circle",
    errno.EINVAL: "the file system does not take this name",
}
_REASONS = _FULL | _LARGE | _FAILED | _DENIED
_TEXTS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Input/output error": errno.EIO,
}


def storage_error(path: Path, error: Exception, left: Path | None = None, *, is_place: bool = False) -> Exception:
    """The StorageError for an exception, or the exception itself if it is about something else.

    Args:
        path: What was being written.
        error: What happened.
        left: What could not be removed after it.
        is_place: Whether `path` was only being looked at as a place to write to.
    """
    number = _errno(error)
    reason = (_REASONS | _NO_SUCH_PLACE if is_place else _REASONS).get(number)
    if reason is None:
        return error
    named = getattr(error, "filename", None)
    if isinstance(named, str) and not is_place and not _is_ours(Path(named), path):
        return StorageError(f"Cannot use {named}: {reason}.", "Nothing was written.")
    action = _action(number, path)
    if left is not None:
        action += f" {left} could not be removed; the next command here that can will."
    return StorageError(f"Cannot write {path}: {reason}.", action)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden path into a StorageError that names `path`."""
    try:
        yield
    except Exception as error:
        meant = storage_error(path, error)
        if meant is error:
            raise
        raise meant from error


@contextlib.contextmanager
def place_errors(path: Path) -> Iterator[None]:
    """The same while `path` is only being checked, or its folder created."""
    try:
        yield
    except OSError as error:
        meant = storage_error(path, error, is_place=True)
        if meant is error:
            raise
        raise meant from error


def _errno(error: Exception) -> int:
    """The system's error number, which libraries in other languages only have in their message."""
    if isinstance(error, PtgcError):
        return 0
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    if found := re.search(r"\bos error (\d+)\b", text):
        return int(found[1])
    return next((number for words, number in _TEXTS.items() if words in text), 0)


def _is_ours(named: Path, path: Path) -> bool:
    """Whether a file is the one being written, or lies in the folder where that is made."""
    return named.absolute().is_relative_to(path.absolute().parent)


def _action(number: int, path: Path) -> str:
    if number in _FULL:
        return f"Make room there ({_free(path)} are free), then run the command again."
    if number in _LARGE:
        return "Choose a file system that takes larger files, or raise the limit (ulimit -f)."
    if number in _FAILED:
        return "Look at the system's log: the disk or the connection to it may be failing."
    if number in _DENIED:
        return "Choose another place, or change its permissions."
    return "Choose another place."


def _free(path: Path) -> str:
    existing = next((parent for parent in (path, *path.absolute().parents) if parent.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    return f"{free / 1e9:.1f} GB" if free >= 1e9 else f"{free / 1e6:.1f} MB"
