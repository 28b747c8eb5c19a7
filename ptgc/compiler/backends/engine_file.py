"""What an engine's file says of itself, without the library that made it.

Source: trtexec's `--getPlanVersionOnly` (NVIDIA/TensorRT, samples/common/sampleEngines.cpp): a tag, and the version of
the library in the bytes 24 to 27. TensorRT-RTX writes the same with a tag of its own (seen in 1.7.1.116).
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
    """The beginning of an engine."""

    backend: str
    """Which library it is for."""
    version: str
    """Version of the library that made it, as `11.4.0.106`."""


def read_engine_file(path: Path) -> EngineFile:
    """Read the beginning of an engine.

    Raises:
        BuildError: It cannot be read, or is no engine.
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

    Engines run on the version that they were made with; numbers of a build are left out where a library does not tell
    them.
    """
    return made_by.split(".")[:3] != installed.split(".")[:3]


def check_adopted(
    engines: Mapping[str, Path], roles: Collection[str], backend: str, version: str
) -> Mapping[str, Path]:
    """Engines that were compiled elsewhere, once they may belong to this build.

    Args:
        engines: Files by role, as `--engine` names them.
        roles: Of the build.
        backend: Which library they must be for.
        version: Of the library that is installed.

    Raises:
        BuildError: A role that the build does not have, or a file that is no engine of this library.
        EngineStaleError: One of another version.
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
