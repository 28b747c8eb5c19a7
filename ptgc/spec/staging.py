"""Directories that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ptgc.errors import StorageError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file is too large",
}
_DENIED = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
}


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden path into a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        reason = (_FULL | _DENIED).get(error.errno or 0)
        if reason is None:
            raise
        action = "Choose another place, or change its permissions."
        if error.errno in _FULL:
            action = f"Make room there ({_free(path)} are free), then run the command again; nothing was changed."
        raise StorageError(f"Cannot write {path}: {reason}.", action) from error


def _free(path: Path) -> str:
    existing = next((parent for parent in (path, *path.parents) if parent.exists()), Path("/"))
    return f"{shutil.disk_usage(existing).free / 1e9:.1f} GB"


@contextlib.contextmanager
def staged_directory(final: Path, *, replace: bool) -> Iterator[Path]:
    """A directory beside `final` to write into; it takes the name `final` when the block ends well.

    A process killed inside the block leaves only a hidden directory, which the next one removes.

    Args:
        final: Where the result will be.
        replace: Whether an existing directory of that name may be replaced.

    Raises:
        StorageError: The disk is full, the path cannot be written, or `final` exists and may not be replaced.
    """
    with passing_directory(final) as staging:
        yield staging
        staging.chmod(0o755)
        _sync(staging)
        _rename(staging, final, replace=replace)


@contextlib.contextmanager
def passing_directory(final: Path) -> Iterator[Path]:
    """A hidden directory beside `final` that goes when the block ends, or when the next one is made after a kill.

    Raises:
        StorageError: The disk is full, or the path cannot be written.
    """
    with storage_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(final)
        staging, lock = _make_staging(final)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            os.close(lock)


def write_whole(path: Path, content: bytes) -> None:
    """A file that appears whole or not at all, in a folder that is made where it is missing.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def take_over(source: Path, copy: Path) -> None:
    """A second name for a file, where the file system has such, or a copy; weights are large."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, copy)
    except OSError:
        shutil.copyfile(source, copy)


def _make_staging(final: Path) -> tuple[Path, int]:
    """A new hidden directory beside `final`, and the lock on it that says that its writer lives."""
    while True:
        staging = Path(tempfile.mkdtemp(prefix=f".{final.name}.partial-", dir=final.parent))
        lock = os.open(staging, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if staging.exists():
            return staging, lock
        os.close(lock)  # taken for abandoned, and removed, before it was locked


def _remove_abandoned(final: Path) -> None:
    """Remove what killed processes left behind: staging directories that nobody holds the lock of."""
    for leftover in final.parent.glob(f".{final.name}.partial-*"):
        try:
            lock = os.open(leftover, os.O_RDONLY)
        except OSError:
            continue  # being removed by another process
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its writer lives
        else:
            shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(lock)


def _sync(directory: Path) -> None:
    """Have the files on the disk before the name is: a power cut must not leave a named, empty file."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _rename(staging: Path, final: Path, *, replace: bool) -> None:
    if replace and final.exists():
        _exchange(staging, final)
        shutil.rmtree(staging, ignore_errors=True)
        return
    try:
        staging.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise StorageError(f"{final} exists already.", "Choose another name, or replace it.") from error


def _exchange(left: Path, right: Path) -> None:
    """Swap two directories: in one step where the system can, in two where it cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd, exchange = -100, 2
    swap = getattr(libc, "renameat2", None)
    if swap is not None and swap(at_cwd, os.fsencode(left), at_cwd, os.fsencode(right), exchange) == 0:
        return
    aside = right.with_name(f".{right.name}.replaced-{os.getpid()}")
    right.rename(aside)
    left.rename(right)
    aside.rename(left)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Holds a lock file; gives whether it had to wait for another process.

    Args:
        path: The lock file; made where it is missing.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            waited = False
        except OSError:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waited = True
        yield waited
    finally:
        os.close(lock)
