"""Cases of the fuzz: documents of good bundles, changed in one to three places."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

LOOPS = ("speculative", "drafter", "encoder", "canvas", "edit", "source-edit", "one-shot")
LISTED = ("reference", "tokenizer", "tokenizer_config", "chat_template")
"""Documents that the manifest lists with their hash."""
MEASURED = ("costs", "tuning")
"""Documents that no hash covers, and that do not affect texts."""
DOCUMENTS = ("manifest", "build", *LISTED, *MEASURED)
CANARY = "@canary@"
"""Stands for the absolute path of a folder outside the bundle."""

_NUMBERS = (
    *(
        sign * ((1 << power) + offset)
        for power in (0, 7, 10, 12, 16, 24, 25, 31, 32, 46, 53, 63, 64)
        for offset in (-1, 0, 1)
        for sign in (1, -1)
    ),
    10**400,
)
_STRINGS = (
    "",
    "x",
    "target",
    "drafter",
    "speculative",
    "ngram",
    "model",
    "none",
    "lossy",
    "drafter-ngram",
    "suffix",
    "merged",
    "encoder",
    "token_inserter",
    "source",
    "block",
    "..",
    "../canary/target.onnx",
    "../../../canary",
    CANARY,
    f"{CANARY}/target.onnx",
    "link/target.onnx",
    "a\0b",
    "\ud800",
    "ä" * 5000,
    "a/" * 2000,
)
_OTHERS = (None, True, False, 0.5, -0.0, 1e300, float("inf"), float("nan"), [], {}, [0], [[]], {"": 0}, {"0": {}})
_SHARED = tuple({"role": role, "layer": layer} for role in ("target", "drafter", "") for layer in (0, 1, 1 << 31))
_VALUES: tuple[Any, ...] = (*_NUMBERS, *_STRINGS, *_OTHERS, *_SHARED)


@dataclass(frozen=True)
class Edit:
    """One change of a parsed document."""

    where: int
    """Index of the changed value."""
    change: str
    """One of `CHANGES`."""
    value: Any
    """What is put there (a copy: lists and objects are changed by later edits), where the change takes a value."""
    other: int
    """Index of the value to copy, if any."""


@dataclass(frozen=True)
class Case:
    """One hostile bundle."""

    loop: str
    """The good bundle that is changed."""
    document: str
    """The document that is changed."""
    edits: tuple[Edit, ...]
    """Changes of the document."""
    damage: str
    """A change of its bytes or of its kind of file; empty for none."""
    at: int
    """Position of the change in the bytes."""
    refits: bool
    """Whether digests are updated after the change, so that the bundle is consistent."""


def _set(inner: Any, key: Any, edit: Edit, _all: list[Any]) -> None:
    inner[key] = deepcopy(edit.value)


def _delete(inner: Any, key: Any, edit: Edit, _all: list[Any]) -> None:
    del inner[key]


def _copy(inner: Any, key: Any, edit: Edit, values: list[Any]) -> None:
    inner[key] = json.loads(json.dumps(values[edit.other % len(values)]))


def _nudge(inner: Any, key: Any, edit: Edit, _all: list[Any]) -> None:
    value = inner[key]
    if isinstance(value, list):
        inner[key] = [value * 2, value[:-1], value[::-1], [*value, deepcopy(edit.value)]][edit.other % 4]
    elif isinstance(value, dict):
        inner[key] = {**value, str(edit.value): edit.other}
    elif isinstance(value, str):
        inner[key] = value + str(edit.value)
    elif value is not None:
        inner[key] = [value + 1, value - 1, value * 2, value // 2, -value][edit.other % 5]


def _rename(inner: Any, key: Any, edit: Edit, _all: list[Any]) -> None:
    if isinstance(inner, dict):
        inner[str(edit.value)] = inner.pop(key)


def _flip(content: bytes, at: int, bits: int) -> bytes:
    return content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :]


CHANGES: dict[str, Callable[[Any, Any, Edit, list[Any]], None]] = {
    "set": _set,
    "delete": _delete,
    "copy": _copy,
    "nudge": _nudge,
    "rename": _rename,
}
DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "cut": lambda content, at: content[: at % (len(content) + 1)],
    "flip": lambda content, at: _flip(content, at % len(content), 1 << at % 8),
    "twice": lambda content, at: content.replace(b"{", b'{"id": 1, "id": 2,', 1),
    "utf-16": lambda content, at: content.decode().encode("utf-16"),
    "bom": lambda content, at: b"\xef\xbb\xbf" + content,
    "latin": lambda content, at: content + b"\xff",
    "deep": lambda content, at: b'{"a":' + b"[" * (at % 100_000 + 60) + b"1" + b"]" * (at % 100_000 + 60) + b"}",
    "empty": lambda content, at: b"",
}
KINDS = ("missing", "pipe", "folder", "loop of links", "link outside")
"""Kinds of files that may replace a document's file."""


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in a document: its container, and its name or index there."""
    inner = list(document.items()) if isinstance(document, dict) else list(enumerate(document))
    for key, value in inner:
        yield document, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def apply_edits(document: Any, edits: tuple[Edit, ...]) -> None:
    """Change a parsed document in place."""
    for edit in edits:
        found = list(places(document))
        if not found:
            return
        inner, key = found[edit.where % len(found)]
        CHANGES[edit.change](inner, key, edit, [holder[name] for holder, name in found])


_EDITS = st.builds(
    Edit,
    where=st.integers(0, 1 << 16),
    change=st.sampled_from(("set", "set", "nudge", "nudge", "copy", "delete", "rename")),
    value=st.sampled_from(_VALUES),
    other=st.integers(0, 1 << 16),
)
_WHOLE = st.one_of(
    st.just(""), st.just(""), st.just(""), st.just(""), st.sampled_from(tuple(DAMAGES)), st.sampled_from(KINDS)
)
CASES = st.builds(
    Case,
    loop=st.sampled_from(LOOPS),
    document=st.sampled_from((*(("manifest", "build") * 4), *LISTED, *MEASURED)),
    edits=st.lists(_EDITS, min_size=1, max_size=3).map(tuple),
    damage=_WHOLE,
    at=st.integers(0, 1 << 20),
    refits=st.sampled_from((True, True, True, False)),
)
