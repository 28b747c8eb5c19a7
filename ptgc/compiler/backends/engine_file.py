"""Reads the header of an engine file, without the library that made it.

Source: trtexec's `--getPlanVersionOnly` (NVIDIA/TensorRT, samples/common/sampleEngines.cpp): a tag, and in bytes 24 to
27 the version of the library. TensorRT-RTX writes the same with a tag of its own (seen in 1.7.1.116).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ptgc.errors import BuildError, EngineStaleError
from ptgc.spec.json_file import UnreadableError, read_regular

_TAGS = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx"}
_HEADER = 28


@dataclass(frozen=True)
class EngineFile:
    """The header of an engine file."""

    backend: str
    """Which library it is for."""
    version: str
    """Version of the library that made it, such as `11.4.0.106`."""


def read_engine_file(path: Path) -> EngineFile:
    """Read the header of an engine file.

    Raises:
        BuildError: The file cannot be read, or is not an engine.
    """
    try:
        head = read_regular(path, most=None, first=_HEADER)
    except UnreadableError as error:
        raise BuildError(f"The engine {path} {error}.", "Name a file that trtexec saved.") from error
    backend = _TAGS.get(head[:4])
    if backend is None or len(head) < _HEADER:
        raise BuildError(f"{path} is no engine of TensorRT or TensorRT-RTX.", "Name a file that trtexec saved.")
    return EngineFile(backend, ".".join(str(part) for part in head[24:28]))


def is_stale(made_by: str, installed: str) -> bool:
    """Whether an engine of one version cannot be run by another: only the last number may differ.

    An engine runs on the version that it was made with. The build number is ignored, because not every library reports
    it.
    """
    return made_by.split(".")[:3] != installed.split(".")[:3]


def check_adopted(
    engines: Mapping[str, Path], roles: Collection[str], backend: str, version: str
) -> Mapping[str, Path]:
    """Check engines that were compiled elsewhere, and return them if this build can take them.

    Args:
        engines: Files by role, as given with `--engine`.
        roles: The build's roles.
        backend: Which library they must be for.
        version: Version of the installed library.

    Raises:
        BuildError: The build has no such role, or the file is not an engine of this library.
        EngineStaleError: An engine was made by another version.
    """
    for role, path in engines.items():
        if role not in roles:
            raise BuildError(
                f"--engine names the role '{role}'; this build has: {', '.join(roles)}.", "--engine ROLE=FILE"
            )
        found = read_engine_file(path)
        if found.backend != backend:
            raise BuildError(
                f"The engine {path} is for {found.backend}, not {backend}.", f"Build with --backend {found.backend}."
            )
        if is_stale(found.version, version):
            raise EngineStaleError(
                f"The engine {path} was made by {backend} {found.version}, and {version} is installed.",
                "Compile it again from the prepared graph with that version, or leave --engine out.",
            )
    return engines
