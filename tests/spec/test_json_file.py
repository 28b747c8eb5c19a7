"""Files made by hand: they are refused with a reason, and never block."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ptgc.spec import json_file
from ptgc.spec.json_file import MissingError, UnreadableError, parse_json, read_regular


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": NaN}', "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e999]", "1e999 is too large"),
        (b"[" + b"1" * 5000 + b"]", "not valid JSON"),
        (b'{"a": {"b": 1, "b": 2}}', "the name 'b' twice"),
        (b"[" * 65 + b"]" * 65, "more than 64 levels deep"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        (b'["\\ud800"]', "half of a surrogate pair"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\xff{}", "not UTF-8"),
        (b"", "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
    ],
)
def test_what_is_no_strict_json_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        parse_json(content)


def test_strict_json_is_read() -> None:
    text = '{"a": [1, -2.5, true, null, "\\ud83d\\ude00"], "b": {"a": 18446744073709551616}}'
    assert parse_json(text) == {"a": [1, -2.5, True, None, "\U0001f600"], "b": {"a": 1 << 64}}
    assert parse_json(b"[" * 64 + b"]" * 64)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "circle"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)  # nobody writes to it, so opening it as a file would block for ever
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "file")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # what is open, not a folder's files
    with pytest.raises(UnreadableError, match=r"no regular file|cannot be read"):
        read_regular(path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("name", ["nothing", "a/b"])
def test_a_missing_file_is_an_error_of_its_own(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(MissingError, match="is missing"):
        read_regular(tmp_path / name)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="cannot be read"):
        read_regular(tmp_path / name)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, json_file.MAX_JSON_BYTES + 1)
    with pytest.raises(UnreadableError, match="at most"):
        read_regular(path)
