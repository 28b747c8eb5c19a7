"""Directories and files that appear whole or not at all.

What is being written is hidden next to its final name:

    .ptgc-staging-k2x9.owner       the writing process; locked while it lives .ptgc-staging-k2x9/            what will
    take the final name .ptgc-staging-k2x9.replaced/   the previous holder of the name, if the system cannot swap names
    in one step
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ptgc.errors import StorageError
from ptgc.spec.interruption import uninterrupted
from ptgc.spec.owner import Owner
from ptgc.spec.storage_errors import place_errors, storage_error

PREFIX = ".ptgc-staging-"
"""The prefix of these names."""
_OWNER = ".owner"
_REPLACED = ".replaced"


@contextlib.contextmanager
def staged_directory(final: Path, *, replace: bool) -> Iterator[Path]:
    """A directory beside `final` to write into; it takes the name `final` when the block succeeds.

    Args:
        final: Where the result will be.
        replace: Whether an existing directory of that name may be replaced.

    Raises:
        StorageError: The disk is full, the path cannot be written, or `final` exists and may not be replaced.
    """
    final = final.absolute()
    with passing_directory(final) as content:
        yield content
        _sync(content)
        with uninterrupted():
            _rename(content, final, replace=replace)
        _sync_names(final.parent)


@contextlib.contextmanager
def passing_directory(final: Path) -> Iterator[Path]:
    """A hidden directory beside `final`, removed when the block ends or, after a kill, by the next command.

    Raises:
        StorageError: The disk is full, or the path cannot be written; the error says what could not be removed.
    """
    final = final.absolute()
    with _parents(final):
        sweep(final.parent)
        with place_errors(final):
            staging, lock = _make_staging(final)
        try:
            yield staging
        except Exception as error:
            with uninterrupted():
                _remove(staging)
            meant = storage_error(final, error, staging if staging.exists() else None)
            if meant is error:
                raise
            raise meant from error
        finally:
            with uninterrupted():
                _remove(staging)
                os.close(lock)


def scratch_directory() -> contextlib.AbstractContextManager[Path]:
    """The same in the system's folder for temporary files ($TMPDIR)."""
    return passing_directory(Path(tempfile.gettempdir()) / "ptgc")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, in a folder that is created if missing.

    Raises:
        StorageError: It cannot be written.
    """
    with staged_file(path) as made:
        made.write_bytes(content)


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """The path of a file to write, which takes the name `path` when the block succeeds.

    Raises:
        StorageError: It cannot be written.
    """
    with passing_directory(path) as folder:
        made = folder / path.name
        yield made
        with made.open("rb") as file:
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, made)
        made.replace(path)


def take_over(source: Path, copy: Path) -> None:
    """Make a hard link to a file if the file system has them, else a copy; weights are large."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, copy)
    except OSError:
        shutil.copyfile(source, copy)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder; what a living process is writing stays.

    A folder that cannot be read or written is left as it is.
    """
    try:
        found = sorted(entry.name for entry in os.scandir(folder) if entry.name.startswith(PREFIX))
    except OSError:
        return
    for name in found:
        if name.endswith(_OWNER):
            _remove_abandoned(folder / name)


def sweep_scratch() -> None:
    """Remove what killed processes left where `scratch_directory` makes folders."""
    with contextlib.suppress(OSError):
        sweep(Path(tempfile.gettempdir()))


@contextlib.contextmanager
def locked(file: Path, progress: Callable[[str], None] = lambda _: None, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which may be replaced by another file of that name while this waits.

    If the file does not exist, or its file system has no locks, nothing is held.

    Args:
        file: The file to lock; it is not changed.
        progress: Called before waiting for another process.
        shared: Whether others may hold a shared lock too.
    """
    lock = None
    while lock is None and (opened := _open_for_lock(file)) is not None:
        try:
            _lock(opened, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, file.parent, progress)
            if _is_at(opened, file):
                lock = opened
        finally:
            if lock is None:
                os.close(opened)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _open_for_lock(file: Path) -> int | None:
    """Open a file to lock it; network file systems need it open for writing."""
    for flags in (os.O_RDWR, os.O_RDONLY):
        with contextlib.suppress(OSError):
            return os.open(file, flags)
    return None


def _lock(descriptor: int, kind: int, used: Path, progress: Callable[[str], None]) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        progress(f"Waiting for another command that uses {used}")
        fcntl.flock(descriptor, kind)
    except OSError:
        return  # no locks here


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


@contextlib.contextmanager
def _parents(final: Path) -> Iterator[None]:
    """Create the folder of `final`; remove it again if it was created and the block fails."""
    missing = [parent for parent in final.parents if not parent.exists()]
    try:
        with place_errors(final):
            final.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _make_staging(final: Path) -> tuple[Path, int]:
    """Create a hidden directory beside `final`, and the lock that shows that its writer lives."""
    while True:
        with uninterrupted():
            lock, name = tempfile.mkstemp(prefix=PREFIX, suffix=_OWNER, dir=final.parent)
            staging = Path(name).with_suffix("")
            try:
                _lock(lock, fcntl.LOCK_EX, staging, lambda _: None)
                if _is_at(lock, Path(name)):
                    os.write(lock, Owner.this_process(final.name).to_bytes())
                    staging.mkdir()
                    return staging, lock
                os.close(lock)  # it was removed as abandoned before it was locked
            except BaseException:
                _remove(staging)
                os.close(lock)
                raise


def _remove(staging: Path) -> None:
    """Remove a staging directory. The owner file goes last, so that the rest is found again after a kill in between."""
    left = [path for path in (staging, staging.with_suffix(_REPLACED)) if path.exists()]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    if not any(path.exists() for path in left):
        with contextlib.suppress(OSError):
            staging.with_suffix(_OWNER).unlink(missing_ok=True)


def _remove_abandoned(owner: Path) -> None:
    try:
        lock = os.open(owner, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return  # gone meanwhile, or not ours
    with uninterrupted():
        try:
            # Anybody may have put a pipe there, and reading it could block forever.
            if stat.S_ISREG(os.fstat(lock).st_mode) and _is_abandoned(owner, lock):
                _restore(owner)
                _remove(owner.with_suffix(""))
        finally:
            os.close(lock)


def _is_abandoned(owner: Path, lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        return not Owner.read(owner).may_live()
    return _is_at(lock, owner)


def _restore(owner: Path) -> None:
    """Restore a directory that was renamed away before its replacement got the name."""
    name, replaced = Owner.read(owner).final, owner.with_suffix(_REPLACED)
    if name and replaced.exists() and not (owner.parent / name).exists():
        with contextlib.suppress(OSError):
            replaced.rename(owner.parent / name)


def _sync(directory: Path) -> None:
    """Flush files to disk before the rename, so that a power cut does not leave empty files under the final name."""
    for path in (directory, *directory.rglob("*")):
        if path.is_dir():
            _sync_names(path)
        elif path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _sync_names(directory: Path) -> None:
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system cannot flush directories
            raise
    finally:
        os.close(folder)


def _rename(content: Path, final: Path, *, replace: bool) -> None:
    if replace and final.exists():
        _exchange(content, final)
        return
    try:
        content.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise StorageError(f"{final} exists already.", "Choose another name, or replace it.") from error


def _exchange(content: Path, final: Path) -> None:
    """Swap two directories, in one step if the system can, else in two."""
    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd, exchange = -100, 2
    swap = getattr(libc, "renameat2", None)
    if swap is not None and swap(at_cwd, os.fsencode(content), at_cwd, os.fsencode(final), exchange) == 0:
        return
    replaced = content.with_suffix(_REPLACED)
    final.rename(replaced)
    try:
        content.rename(final)
    except OSError:
        replaced.rename(final)
        raise
