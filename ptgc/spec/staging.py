"""Directories and files that appear whole or not at all.

What is being written is hidden beside its final name:

    .ptgc-staging-k2x9.owner       who writes; locked while that process lives
    .ptgc-staging-k2x9/            what takes the final name at the end
    .ptgc-staging-k2x9.replaced/   what had the name before, where the system cannot swap two names in one step
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
"""What these names begin with."""
_OWNER = ".owner"
_REPLACED = ".replaced"


@contextlib.contextmanager
def staged_directory(final: Path, *, replace: bool) -> Iterator[Path]:
    """A directory beside `final` to write into; it takes the name `final` when the block ends well.

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
    """A hidden directory beside `final` that goes when the block ends, or with the next command after a kill.

    Raises:
        StorageError: The disk is full, or the path cannot be written; says what could not be removed.
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
    """The same where the system keeps what passes ($TMPDIR)."""
    return passing_directory(Path(tempfile.gettempdir()) / "ptgc")


def write_whole(path: Path, content: bytes) -> None:
    """A file that appears whole or not at all, in a folder that is made where it is missing.

    Raises:
        StorageError: It cannot be written.
    """
    with passing_directory(path) as folder:
        made = folder / path.name
        with made.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, made)
        made.replace(path)


def take_over(source: Path, copy: Path) -> None:
    """A second name for a file, where the file system has such, or a copy; weights are large."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, copy)
    except OSError:
        shutil.copyfile(source, copy)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder; what a living one is writing stays.

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
    """Holds the lock of a file, which may be replaced by another one of its name while this waits.

    Where there is no such file, or its file system has no locks, nothing is held.

    Args:
        file: It is not changed.
        progress: Called before waiting for another process.
        shared: Whether others may hold it shared as well.
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
    """Locks of network file systems want a file that is open for writing."""
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
    """The folder of `final`; where that had to be made and the block fails, it goes again."""
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
    """A new hidden directory beside `final`, and the lock that says that its writer lives."""
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
                os.close(lock)  # taken for abandoned, and removed, before it was locked
            except BaseException:
                _remove(staging)
                os.close(lock)
                raise


def _remove(staging: Path) -> None:
    """The owner's file goes last, so that after a kill in between the rest is found again."""
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
            # A pipe, which anybody may have put there, would be read for ever.
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
    """Give back a name that was taken from one directory and not yet given to the other."""
    name, replaced = Owner.read(owner).final, owner.with_suffix(_REPLACED)
    if name and replaced.exists() and not (owner.parent / name).exists():
        with contextlib.suppress(OSError):
            replaced.rename(owner.parent / name)


def _sync(directory: Path) -> None:
    """Have the files on the disk before the name is: a power cut must not leave a named, empty file."""
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
        if error.errno != errno.EINVAL:  # what a file system says that does not keep names apart
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
    """Swap two directories: in one step where the system can, in two where it cannot."""
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
