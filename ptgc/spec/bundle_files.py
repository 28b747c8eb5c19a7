"""Checks that the files of a bundle or build are inside it, listed and unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ptgc.errors import BundleError
from ptgc.spec.json_file import UnreadableError, read_regular
from ptgc.spec.manifest import FileEntry

_HASH_BLOCK = 1 << 20  # bytes
_REPORTED = 12  # most files named in one error
_UNSAFE = "Do not use this bundle."


@contextmanager
def readable(path: Path, action: str) -> Iterator[None]:
    """Turn any failure to read a file or its content into a BundleError that names the file."""
    try:
        yield
    except UnreadableError as error:
        raise BundleError(f"{path} {error}.", action) from error
    except (OSError, ValueError, RuntimeError) as error:  # from paths: forbidden, too long, a loop of links
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BundleError(f"{path} cannot be read: {reason}.", action) from error


def check_paths(folder: Path, paths: Iterable[str]) -> None:
    """Refuse any path that leaves the folder through a link; manifest fields already refuse it by its text."""
    with readable(folder, _UNSAFE):
        root = folder.resolve()
    for path in paths:
        with readable(folder / path, _UNSAFE):
            inside = (folder / path).resolve().is_relative_to(root)
        if not inside:
            raise BundleError(f"'{path}' in {folder} is a link to a file outside it.", _UNSAFE)


def verify_files(folder: Path, files: Sequence[FileEntry], action: str, *, hashes: bool) -> None:
    """Check that every file is there, whole and unchanged.

    Raises:
        BundleError: The error names every file that is missing or of another size; if there is none, those of another
            hash.
    """
    check_paths(folder, [entry.path for entry in files])
    problems = [problem for entry in files if (problem := _size_problem(folder / entry.path, entry.size, action))]
    if hashes and not problems:
        for entry in files:
            with readable(folder / entry.path, action):
                if sha256(folder / entry.path) != entry.sha256:
                    problems.append(f"{folder / entry.path} has been changed: its sha256 is not that of its manifest.")
    if problems:
        more = f" And {len(problems) - _REPORTED} more." if len(problems) > _REPORTED else ""
        raise BundleError("\n".join(problems[:_REPORTED]) + more, action)


def _size_problem(path: Path, expected: int, action: str) -> str | None:
    """What is wrong with a file's size; None if nothing."""
    with readable(path, action):
        if not path.is_file():
            return f"{path} is missing."
        size = path.stat().st_size
    return None if size == expected else f"{path} has {size} bytes, not the {expected} of its manifest."


def read_listed(folder: Path, entry: FileEntry, action: str) -> bytes:
    """The bytes of a file, after checking that they are those that its manifest lists.

    Raises:
        BundleError: They are different, or cannot be read.
    """
    path = folder / entry.path
    check_paths(folder, [entry.path])
    with readable(path, action):
        content = read_regular(path, entry.size)
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BundleError(f"{path} has been changed: it is not that of its manifest.", action)
    return content


def sha256(path: Path) -> str:
    """The hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """Entries for every file below a folder, by path."""
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file():
            found.append(FileEntry(relative, path.stat().st_size, sha256(path)))
    return tuple(found)
