"""Stores measurements of a build on this device: beside the build, or in the user's cache if it is read-only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ptgc.errors import BundleError, StorageError
from ptgc.spec.bundle import MEASURED, Build
from ptgc.spec.bundle_files import check_paths
from ptgc.spec.fields import read
from ptgc.spec.json_file import MissingError, UnreadableError, parse_json, read_regular
from ptgc.spec.manifest import dumps
from ptgc.spec.staging import write_whole

T = TypeVar("T")


def cache_directory() -> Path:
    """The folder for data that can be recreated: `$PTGC_CACHE`, or `ptgc` in the user's cache folder."""
    base = os.environ.get("PTGC_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptgc"


def _places(build: Build, name: str) -> tuple[Path, Path]:
    """The files in the cache and beside the build; the cache is only used if the build's folder is read-only."""
    from ptgc.runtime._core import device_fingerprint

    file = f"{device_fingerprint(build.manifest.device)}-{name}.json"
    key = f"{build.manifest.bundle_sha256[:16]}-{build.manifest.id}-{build.manifest.sequence}"
    return cache_directory() / MEASURED / key / file, build.path / MEASURED / file


def write_measured(build: Build, name: str, document: dict[str, Any]) -> Path:
    """Store a document about a build on this device, beside the build if that can be written.

    Raises:
        StorageError: It can be stored nowhere.
    """
    content = dumps({**document, "build": build.manifest.id, "sequence": build.manifest.sequence}).encode()
    cached, beside = _places(build, name)
    try:
        check_paths(build.path, [beside.relative_to(build.path).as_posix()])
        write_whole(beside, content)
    except (StorageError, BundleError):
        _write_cached(cached, content)
        return cached
    with suppress(OSError):
        cached.unlink(missing_ok=True)  # it would be read first
    return beside


def _write_cached(place: Path, content: bytes) -> None:
    try:
        write_whole(place, content)
    except StorageError as error:
        raise StorageError(
            f"What was measured can be kept neither beside the build nor in the cache. {error.message}",
            "Name a folder that can be written with the variable PTGC_CACHE.",
        ) from error


def read_measured(build: Build, name: str, kind: type[T], refused: list[str] | None = None) -> Iterator[T]:
    """The documents of that name about this build on this device, best first; damaged ones are skipped.

    Args:
        build: Which build.
        name: Name of the documents.
        kind: The dataclass that they hold.
        refused: Receives why a document that exists is skipped.
    """
    cached, beside = _places(build, name)
    for place in (cached, beside):
        try:
            if place is beside:
                check_paths(build.path, [place.relative_to(build.path).as_posix()])
            document = parse_json(read_regular(place))
            if isinstance(document, dict) and document.get("sequence") == build.manifest.sequence:
                yield read(kind, document)
        except MissingError:
            continue  # not measured here yet: choices then use a model of the cost
        except (UnreadableError, BundleError) as error:
            if refused is not None:
                refused.append(str(error))
