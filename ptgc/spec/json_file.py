"""Reads JSON files that may be handmade or hostile; what cannot be read safely is refused with a reason."""

from __future__ import annotations

import json
import os
import re
import stat
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from ptgc.spec.limits import MAX_JSON_BYTES, MAX_JSON_DEPTH

_SHOWN = 48  # most characters shown of a refused name
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class UnreadableError(Exception):
    """A file cannot be read, or does not hold what it should; the message continues after the file's name.

    The caller turns it into an error that says what to do.
    """


class MissingError(UnreadableError):
    """There is no such file."""


def read_regular(path: Path, most: int | None = MAX_JSON_BYTES, first: int = -1) -> bytes:
    """The bytes of a regular file; anything else is closed as soon as it is recognised.

    Args:
        path: The file. Reading a pipe could block, and reading a device could have effects.
        most: Most bytes that it may have; None for any number.
        first: With `most` None, the number of bytes to read; -1 for all.

    Raises:
        UnreadableError: It is missing, forbidden, too large or not a regular file.
    """
    try:
        with open(path, "rb", opener=_open_regular) as file:  # Path.open has no opener
            size = os.fstat(file.fileno()).st_size
            if most is not None and size > most:
                raise UnreadableError(f"has {size} bytes; at most {most} are read")
            content = file.read(first) if most is None else file.read(most + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError("is missing") from error
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null byte in the name
        raise UnreadableError(f"cannot be read: {error}") from error
    if most is not None and len(content) > most:
        raise UnreadableError(f"grew beyond {most} bytes while it was read")
    return content


def _open_regular(path: str, flags: int) -> int:
    """Open without blocking, and close at once what is not a regular file."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnreadableError("is no regular file")
    return handle


def decode_text(content: bytes) -> str:
    """Decode UTF-8 text.

    Raises:
        UnreadableError: It is in another encoding.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not UTF-8 text: {error.reason} at byte {error.start}") from error


def parse_json(content: bytes | str) -> Any:
    """Parse a JSON document in UTF-8 with unique names per object, finite numbers and limited nesting.

    Raises:
        UnreadableError: It is not such a document.
    """
    text = content if isinstance(content, str) else decode_text(content)
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UnreadableError(f"is not valid JSON: {reason}") from error
    if _depth(document) > MAX_JSON_DEPTH:
        raise UnreadableError(f"is not valid JSON: it is nested more than {MAX_JSON_DEPTH} levels deep")
    if _SURROGATE.search(text) is not None:
        try:
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise UnreadableError("is not valid JSON: a string has half of a surrogate pair") from error
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"an object has the name '{twice[:_SHOWN]}' twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise ValueError(f"{digits} is too large")
    return value


def _depth(document: Any) -> int:
    """Levels of objects and lists, counted without recursion."""
    depth, level = 0, [document]
    while level := [one for one in level if isinstance(one, (dict, list))]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth
