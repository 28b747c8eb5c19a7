"""The library version in an engine file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptgc.compiler.backends.engine_file import EngineFile, is_stale, read_engine_file
from ptgc.errors import BuildError


def engine(tag: bytes, version: bytes) -> bytes:
    return tag + bytes(20) + version + bytes(64)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (engine(b"ftrt", bytes([11, 4, 0, 106])), EngineFile("tensorrt", "11.4.0.106")),
        (engine(b"vtrt", bytes([1, 7, 1, 116])), EngineFile("tensorrt-rtx", "1.7.1.116")),
    ],
)
def test_library_and_version_stand_at_the_beginning(content: bytes, found: EngineFile, tmp_path: Path) -> None:
    path = tmp_path / "engine"
    path.write_bytes(content)
    assert read_engine_file(path) == found


@pytest.mark.parametrize("content", [b"", b"ftrt", b"ONNX" + bytes(64), engine(b"ftrt", b"")[:27]])
def test_what_is_no_engine_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "engine"
    path.write_bytes(content)
    with pytest.raises(BuildError, match="is no engine"):
        read_engine_file(path)
    with pytest.raises(BuildError, match="is missing"):
        read_engine_file(tmp_path / "nothing")


def test_engines_run_on_the_version_that_made_them() -> None:
    assert not is_stale("11.4.0.106", "11.4.0.106")
    assert not is_stale("11.4.0.106", "11.4.0")
    assert is_stale("11.4.0.106", "11.5.0.1")
    assert is_stale("10.15.1.29", "11.4.0.106")
