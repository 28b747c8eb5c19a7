"""Checks where a command is told to write before work begins, and writes output whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ptgc.errors import StorageError
from ptgc.spec.json_file import UnreadableError, parse_json, read_regular
from ptgc.spec.staging import passing_directory, write_whole
from ptgc.spec.storage_errors import place_errors, storage_errors

_OTHER = "Choose another name with -o."
_LONGEST = 128  # bytes of a path inside a bundle
_SYSTEM = (Path("/dev"), Path("/proc"))  # where files belong to the system, such as /dev/stdout


class TakenError(StorageError):
    """A bundle exists already, and may not be replaced."""


class _Probed(Exception):  # noqa: N818 - not an error
    """Ends a block that was entered only to test whether it can start."""


def check_bundle_output(output: str | Path, *, force: bool, sources: tuple[Path, ...] = ()) -> Path:
    """Check that a bundle can be written at `output`, before minutes are spent; leaves nothing there.

    Args:
        output: Where the bundle will be.
        force: Whether an existing bundle may be replaced.
        sources: Paths that the command reads, which must not be replaced.

    Returns:
        `output` as an absolute path.

    Raises:
        TakenError: A bundle exists there, and `force` is not set.
        StorageError: The path holds something else, is a link, lies in a bundle, or cannot be written.
    """
    final = Path(os.path.normpath(output)).absolute()
    with place_errors(final), contextlib.suppress(FileNotFoundError):
        os.lstat(final)
    with place_errors(final), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(final / ("x" * _LONGEST))
    if final.is_symlink():
        place = _real(final)
        what = "a link to" if place.exists() else "a link that leads nowhere, to"
        raise StorageError(f"{final} is {what} {place}.", "Name a folder itself with -o, no link to it.")
    if final.exists():
        _check_taken(final, sources, force=force)
    around = next((parent for parent in _real(final).parents if is_bundle(parent)), None)
    if around is not None:
        raise StorageError(f"{final} lies in the bundle {around}.", _OTHER)
    check_folder(final)
    return final


def check_folder(path: Path) -> None:
    """Check that something can be created at `path`; leaves nothing there.

    Raises:
        StorageError: It cannot be created.
    """
    with contextlib.suppress(_Probed), passing_directory(path):
        raise _Probed


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle's manifest; other programs have files of that name too."""
    try:
        found = parse_json(read_regular(folder / "manifest.json"))
    except UnreadableError:
        return False
    return isinstance(found, dict) and {"schema_version", "roles"} <= found.keys()


def check_output_file(path: Path | None) -> None:
    """Check before work begins that a file can be written.

    Raises:
        StorageError: It is a folder, or cannot be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise StorageError(f"Cannot write {path}: it is a folder.", "Name a file.")
    if not _is_written_in_place(path):
        check_folder(_real(path))


def write_output(path: Path, content: bytes) -> None:
    """Write a file that a user named: to a new file that is renamed, or in place for devices, pipes and closed folders.

    Raises:
        StorageError: It cannot be written.
    """
    if not _is_written_in_place(path):
        write_whole(_real(path), content)
        return
    with storage_errors(path):
        path.write_bytes(content)


def _is_written_in_place(path: Path) -> bool:
    if not path.exists():
        return False
    is_system = any(path.absolute().is_relative_to(folder) for folder in _SYSTEM)
    folder_is_closed = os.access(path, os.W_OK) and not os.access(_real(path).parent, os.W_OK)
    return is_system or not path.is_file() or folder_is_closed


def _check_taken(final: Path, sources: tuple[Path, ...], *, force: bool) -> None:
    for source in sources:
        if source.exists() and _real(source).is_relative_to(_real(final)):
            raise StorageError(f"{final} holds what is read, {source}; it will not be replaced.", _OTHER)
    if not is_bundle(final) and not (final.is_dir() and not any(final.iterdir())):
        raise StorageError(f"{final} exists and is no bundle; it will not be replaced.", _OTHER)
    if not force:
        raise TakenError(f"{final} exists already.", "Choose another name with -o, or add --force to replace it.")
    if os.path.ismount(final):
        raise StorageError(f"{final} is where a file system is mounted; it cannot be replaced.", _OTHER)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
