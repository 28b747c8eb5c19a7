"""Reads documents from text files, piece by piece, so that large files fit into memory."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ptgc.errors import UsageError
from ptgc.runtime.chat_template import check_messages, content_text
from ptgc.runtime.text import TextCodec
from ptgc.spec.json_file import UnreadableError, parse_json

STDIN = Path("-")
"""Stands for the standard input."""
_PIECE = 1 << 16  # characters of a text that are tokenised together
_LONGEST_PIECE = 1 << 20  # of text without line breaks
_FORM = 'A line of a .jsonl file is {"text": TEXT} or {"messages": [...]}.'


class _NoTextError(Exception):
    """A file that is no text; the message is the rest of a sentence about it."""


def read_documents(paths: Iterable[Path], codec: TextCodec, note: Callable[[str], None]) -> Iterator[str | None]:
    """The documents of files, in pieces that are whole words; None ends a document.

    A text file is a document, and so is a line of a .jsonl file. Of a folder, all files are read that are text.

    Args:
        paths: Files and folders; - is stdin.
        codec: Writes conversations as one text.
        note: Called with what was left out.

    Raises:
        UsageError: A file cannot be read, is no text, or has a line that is no document.
    """
    for path in paths:
        if path != STDIN and path.is_dir():
            yield from _folder(path, codec, note)
            continue
        try:
            yield from _documents(path, codec)
        except _NoTextError as error:
            raise UsageError(f"Cannot read {path}: it {error}.", "Name files of UTF-8 text.") from error


def _folder(folder: Path, codec: TextCodec, note: Callable[[str], None]) -> Iterator[str | None]:
    left_out = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        try:
            pieces = list(_documents(path, codec))
        except _NoTextError:
            left_out += 1
        else:
            yield from pieces
    if left_out:
        note(f"{folder}: {left_out} files that are no text were left out.")


def _documents(path: Path, codec: TextCodec) -> Iterator[str | None]:
    try:
        with _open(path) as file:
            if path.suffix != ".jsonl":
                yield from _pieces(_lines(file, _LONGEST_PIECE))
                yield None
                return
            for number, line in enumerate(_lines(file), 1):
                if line.strip():
                    yield _text_of(line, f"{path}:{number}", codec)
                    yield None
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.", "Name files of UTF-8 text.") from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    if path != STDIN:
        with path.open(encoding="utf-8", newline="") as file:
            yield file
        return
    stdin = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="")  # whatever the locale says
    try:
        yield stdin
    finally:
        stdin.detach()


def _lines(file: TextIO, longest: int = -1) -> Iterator[str]:
    while True:
        try:
            line = file.readline(longest)
        except UnicodeDecodeError as error:
            raise _NoTextError(f"is not UTF-8 text ({error.reason})") from error
        if not line:
            return
        if "\0" in line:
            raise _NoTextError("has null bytes, so it is no text")
        yield line


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Lines together; a piece ends before a line that begins with a word, where tokenizers cut anyway."""
    gathered: list[str] = []
    size = 0
    for line in lines:
        if size >= _PIECE and (not line[0].isspace() or size >= _LONGEST_PIECE):
            yield "".join(gathered)
            gathered, size = [], 0
        gathered.append(line)
        size += len(line)
    if gathered:
        yield "".join(gathered)


def _text_of(line: str, place: str, codec: TextCodec) -> str:
    try:
        entry: Any = parse_json(line)
    except UnreadableError as error:
        raise UsageError(f"{place} {error}.", _FORM) from error
    found = entry if isinstance(entry, dict) else {}
    if isinstance(found.get("text"), str):
        return str(found["text"])
    if not isinstance(found.get("messages"), list):
        raise UsageError(f"{place} is no document.", _FORM)
    check_messages(found["messages"])
    if codec.chat_templates:
        return codec.render(found["messages"])
    return "\n\n".join(map(content_text, found["messages"]))
