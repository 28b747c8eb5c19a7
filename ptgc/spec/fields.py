"""Reads frozen dataclasses from JSON; a field's type and its annotated ranges say what a file may hold.

    batch: Annotated[int, Range(1, MAX_BATCH)]
    widths: Annotated[tuple[Annotated[int, Range(1, MAX_WIDTH)], ...], Count(1, MAX_SIZES, ascending=True)]

A class whose JSON differs from its fields has `json_fields(data)`, which converts it. A class whose fields must fit
each other has `problems()`. A class with several kinds has `json_kinds()`, the class for each value of the object's
`kind`. Fields in the file that the class does not have are ignored.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from math import isfinite
from pathlib import PurePosixPath
from typing import Annotated, Any, Protocol, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ptgc.spec.json_file import UnreadableError
from ptgc.spec.limits import MAX_ENTRIES, MAX_LENGTH, MAX_STRING, MAX_VOCAB_SIZE

T = TypeVar("T")

_SHOWN = 48  # most characters shown of a refused value
_REPORTED = 12  # most problems reported for one file
_WRONG = object()


class Rule(Protocol):
    """What a value must be, in addition to its type."""

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, as the end of a sentence; None if nothing is."""


@dataclass(frozen=True)
class Range:
    """Requires a number from `least` to `most`."""

    least: float
    """The smallest."""
    most: float
    """The largest."""

    def problem(self, value: float) -> str | None:
        """See Rule."""
        return None if self.least <= value <= self.most else f"must be from {self.least} to {self.most}"


@dataclass(frozen=True)
class Count:
    """Requires a list or object of `least` to `most` entries."""

    least: int
    """The fewest."""
    most: int
    """The most."""
    ascending: bool = False
    """Whether each number is larger than the one before."""

    def problem(self, value: Sequence[float]) -> str | None:
        """See Rule."""
        if not self.least <= len(value) <= self.most:
            return f"has {len(value)} entries; it must have {self.least} to {self.most}"
        if self.ascending and any(one >= other for one, other in pairwise(value)):
            return "must ascend"
        return None


@dataclass(frozen=True)
class Pattern:
    """Requires a string that matches as a whole."""

    expression: str
    """Regular expression."""
    meaning: str
    """What such a string is, for messages."""

    def problem(self, value: str) -> str | None:
        """See Rule."""
        return None if re.fullmatch(self.expression, value) else f"must be {self.meaning}"


@dataclass(frozen=True)
class Inside:
    """Requires the path of a file inside the folder of the document that names it."""

    def problem(self, value: str) -> str | None:
        """See Rule."""
        path = PurePosixPath(value)
        inside = path.parts and not path.is_absolute() and ".." not in path.parts and "\\" not in value
        return None if inside else "names a file outside itself"


TokenId = Annotated[int, Range(0, MAX_VOCAB_SIZE - 1)]
Length = Annotated[int, Range(1, MAX_LENGTH)]
Name = Annotated[str, Pattern(r"(?![.])[\w.,=+-]{1,200}", "letters, digits, '-', '_' and '.'")]
FilePath = Annotated[str, Inside()]
Sha256 = Annotated[str, Pattern("[0-9a-f]{64}", "a sha256 in lower-case hexadecimal")]


def read(kind: type[T], data: Any, name: str = "") -> T:
    """Read an object of a dataclass from JSON.

    Args:
        kind: The dataclass.
        data: A parsed document, or a part of one.
        name: Where in the document that part is.

    Raises:
        UnreadableError: The error names every problem found.
    """
    problems: list[str] = []
    value = _value(kind, data, name, problems)
    refuse(problems)
    return cast("T", value)


def refuse(problems: Sequence[str]) -> None:
    """Refuse a document if it has problems.

    Raises:
        UnreadableError: The error names every problem, or the first dozen.
    """
    if problems:
        more = len(problems) - _REPORTED
        text = "; ".join(problems[:_REPORTED]) + (f"; and {more} more" if more > 0 else "")
        raise UnreadableError(f"is damaged: {text}")


def _value(kind: Any, data: Any, name: str, problems: list[str]) -> Any:
    """`data` read as a `kind`; `_WRONG` if it is not one, which `problems` then reports."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _checked(kind, data, name, problems)
    if kind is Any:
        return data
    if origin in (Union, types.UnionType):
        return _value(_alternative(get_args(kind), data), data, name, problems)
    if origin in (tuple, list):
        return _list(kind, data, name, problems)
    if origin is dict:
        return _object(kind, data, name, problems)
    if is_dataclass(kind):
        return _instance(cast("type", kind), data, name, problems)
    return _plain(kind, data, name, problems)


def _checked(kind: Any, data: Any, name: str, problems: list[str]) -> Any:
    base, *rules = get_args(kind)
    counts = [rule for rule in rules if isinstance(rule, Count)]
    if isinstance(data, (list, dict)) and counts and len(data) > counts[0].most:
        problems.append(f"{name} {counts[0].problem(cast('Sequence[float]', data))}")
        return _WRONG
    value = _value(base, data, name, problems)
    if value is not _WRONG:
        found = [(rule, problem) for rule in rules if (problem := rule.problem(value)) is not None]
        for rule, problem in found:
            problems.append(
                f"{name} {problem}" if isinstance(rule, Count) else f"{name} is {_shown(data)}; it {problem}"
            )
        return _WRONG if found else value
    return _WRONG


def _alternative(kinds: Sequence[Any], data: Any) -> Any:
    """The member of a union that the data fits; the first if it fits none."""
    for kind in kinds:
        base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if (data is None) if base is type(None) else (isinstance(base, type) and type(data) is base):
            return kind
    return next(kind for kind in kinds if kind is not type(None))


def _list(kind: Any, data: Any, name: str, problems: list[str]) -> Any:
    inner = get_args(kind)
    several = get_origin(kind) is list or inner[-1] is Ellipsis
    if not isinstance(data, list) or (not several and len(data) != len(inner)):
        wanted = "a list" if several else f"a list of {len(inner)}"
        problems.append(f"{name} is {_shown(data)}; it must be {wanted}")
        return _WRONG
    kinds = [inner[0]] * len(data) if several else inner
    found = [
        _value(one, value, f"{name}[{i}]", problems) for i, (one, value) in enumerate(zip(kinds, data, strict=True))
    ]
    if any(value is _WRONG for value in found):
        return _WRONG
    return found if get_origin(kind) is list else tuple(found)


def _object(kind: Any, data: Any, name: str, problems: list[str]) -> Any:
    key_kind, value_kind = get_args(kind)
    if not isinstance(data, dict) or len(data) > MAX_ENTRIES:
        wanted = "an object" if not isinstance(data, dict) else f"an object of at most {MAX_ENTRIES} entries"
        problems.append(f"{name} is {_shown(data)}; it must be {wanted}")
        return _WRONG
    if value_kind is Any:
        return data
    found = {}
    for text, value in data.items():
        key = _value(key_kind, _number(text) if _base(key_kind) is int else text, f"a name in {name}", problems)
        found[key] = _value(value_kind, value, f"{name}.{text[:_SHOWN]}", problems)
    return _WRONG if any(_WRONG in entry for entry in found.items()) else found


def _base(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _number(text: str) -> int | str:
    """A number that JSON spells as a name; the text itself if it is not a number."""
    return int(text) if re.fullmatch("0|[1-9][0-9]{0,17}", text) else text


@cache
def _kinds(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _instance(kind: type, data: Any, name: str, problems: list[str]) -> Any:
    form: Callable[[Any], Any] = getattr(kind, "json_fields", lambda given: given)
    given = form(data)
    if not isinstance(given, dict):
        problems.append(f"{name or 'the document'} is {_shown(data)}; it must be an object")
        return _WRONG
    if hasattr(kind, "json_kinds"):
        known, named = kind.json_kinds(), given.get("kind")
        if not isinstance(named, str) or named not in known:
            problems.append(f"{name}.kind is {_shown(named)}; it must be one of {', '.join(known)}")
            return _WRONG
        kind = known[named]
    kinds, values, before = _kinds(kind), {}, len(problems)
    for field in fields(kind):
        place = f"{name}.{field.name}" if name else field.name
        if field.name in given:
            values[field.name] = _value(kinds[field.name], given[field.name], place, problems)
        elif field.default is MISSING and field.default_factory is MISSING:
            problems.append(f"{place} is missing")
    if len(problems) > before:
        return _WRONG
    try:
        made = kind(**values)
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return _WRONG
    contradictions: Callable[[], Sequence[str]] = getattr(made, "problems", lambda: ())
    problems += [f"{name}.{problem}" if name else problem for problem in contradictions()]
    return made if len(problems) == before else _WRONG


_WORDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def _plain(kind: Any, data: Any, name: str, problems: list[str]) -> Any:
    problem = None
    if isinstance(kind, type) and issubclass(kind, Enum):
        known = [one.value for one in kind]
        problem = None if isinstance(data, str) and data in known else f"must be one of {', '.join(known)}"
    elif kind is float:
        number = type(data) in (int, float) and abs(data) <= 1e308 and isfinite(data)
        problem = None if number else "must be a finite number"
    elif type(data) is not kind:
        problem = f"must be {_WORDS[kind]}"
    elif kind is str and (len(data) > MAX_STRING or "\0" in data):
        problem = f"must have at most {MAX_STRING} characters, none of them null"
    if problem is not None:
        problems.append(f"{name} is {_shown(data)}; it {problem}")
        return _WRONG
    return kind(data) if kind is float or issubclass(kind, Enum) else data


def _shown(data: Any) -> str:
    """A value as shown in a message: lists and objects by type and size, others as JSON writes them, shortened."""
    if isinstance(data, (dict, list)):
        return f"{'an object' if isinstance(data, dict) else 'a list'} of {len(data)}"
    if data is None or isinstance(data, bool):
        return {None: "null", True: "true", False: "false"}[data]
    if isinstance(data, int) and data.bit_length() > 200:
        return f"a number of {data.bit_length()} bits"
    text = f"'{data}'" if isinstance(data, str) else str(data)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
