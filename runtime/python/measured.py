"""What was measured of a build on this device: beside the build, or in the user's cache where that is read-only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptgc.spec.bundle import MEASURED, Build
from ptgc.spec.manifest import dumps
from ptgc.spec.staging import write_whole


def cache_directory() -> Path:
    """Where ptgc keeps what can be made again: `$PTGC_CACHE`, or `ptgc` in the user's cache folder."""
    base = os.environ.get("PTGC_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptgc"


def _places(build: Build, name: str) -> tuple[Path, Path]:
    from ptgc.runtime._core import device_fingerprint

    file = f"{device_fingerprint(build.manifest.device)}-{name}.json"
    key = f"{build.manifest.bundle_sha256[:16]}-{build.manifest.id}-{build.manifest.sequence}"
    return build.path / MEASURED / file, cache_directory() / MEASURED / key / file


def write_measured(build: Build, name: str, document: dict[str, Any]) -> Path:
    """Keep a document about a build on this device, beside the build where that can be written."""
    content = dumps({**document, "build": build.manifest.id, "sequence": build.manifest.sequence}).encode()
    beside, cached = _places(build, name)
    for place in (beside, cached):
        try:
            write_whole(place, content)
            return place
        except OSError:
            if place is cached:
                raise
    raise AssertionError("the last place either returns or raises")


def read_measured(build: Build, name: str) -> Iterator[dict[str, Any]]:
    """The documents of that name about this build on this device, best first; damaged ones are left out."""
    for place in _places(build, name):
        try:
            document = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # nothing measured here yet, or a damaged file: choices then fall back to a model of the cost
        if isinstance(document, dict) and document.get("sequence") == build.manifest.sequence:
            yield document
