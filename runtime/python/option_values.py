"""Reads options by name from Python or JSON: checks them and converts them to the types of the fields."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import PurePath
from typing import Any, TypeVar

from ptgc.errors import UsageError
from ptgc.spec.limits import MAX_TREE_NODES
from ptgc.spec.tree import TreeSpec

Options = TypeVar("Options")


class _WrongTypeError(Exception):
    """A value of the wrong type; the message says what it must be."""


def read_options(
    kind: type[Options],
    given: Mapping[str, Any],
    check: Callable[[Options], list[str]],
    hidden: Sequence[str] = (),
) -> Options:
    """Make a dataclass of options; a None value counts as not given.

    A number without a fraction counts as an integer, because JSON does not distinguish 4 from 4.0. A text is not a
    number, except as the key of an object, which JSON writes as a text.

    Args:
        kind: The dataclass.
        given: The options by name.
        check: Gives the problems of options that have the right types, one sentence each.
        hidden: Fields that are not options.

    Raises:
        UsageError: An unknown name, or values of the wrong type or out of range; all of them are named.
    """
    types = {name: spelled for name, spelled in option_types(kind).items() if name not in hidden}
    unknown = sorted(map(str, set(given) - set(types)))
    if unknown:
        raise UsageError(f"Unknown option: {', '.join(unknown)}.", f"There are: {', '.join(sorted(types))}.")
    values, problems = {}, []
    for name, value in given.items():
        try:
            if value is not None:
                values[name] = READERS[types[name]](value)
        except _WrongTypeError as error:
            problems.append(f"{name} is {_shown(value)}; it must be {error}.")
    options = kind(**values) if not problems else None
    problems = check(options) if options is not None else problems
    if options is None or problems:
        raise UsageError("\n".join(problems))
    return options


def option_types(kind: type[Any]) -> dict[str, str]:
    """The type of every option, as written in its field."""
    return {one.name: str(one.type) for one in fields(kind)}


def is_integer(value: Any) -> bool:
    """Whether this is an integer, numpy's included."""
    return hasattr(value, "__index__") and not _is_boolean(value) and _dimensions(value) == 0


def _dimensions(value: Any) -> int:
    """The number of dimensions of a numpy array; 0 for anything else."""
    return int(getattr(value, "ndim", 0))


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # numpy's have no common base


def _is_list(value: Any) -> bool:
    return not isinstance(value, str | bytes | bytearray) and (
        isinstance(value, Sequence | set | frozenset) or _dimensions(value) == 1
    )


def _whole(value: Any, least: int, most: int) -> int:
    if _dimensions(value) == 0 and callable(getattr(value, "item", None)):
        value = value.item()  # a number of numpy or torch
    whole: Any = int(value) if isinstance(value, float) and value.is_integer() else value
    if not is_integer(whole) or not least <= operator.index(whole) <= most:
        raise _WrongTypeError(f"an integer from {least} to {most}")
    return operator.index(whole)


def _integer(value: Any) -> int:
    return _whole(value, -(1 << 31), (1 << 31) - 1)


def _seed(value: Any) -> int:
    return _whole(value, 0, (1 << 64) - 1)


def _real(value: Any) -> float:
    """A number; it may be infinite, also because it was too large."""
    is_number = is_integer(value) or (hasattr(value, "__float__") and not isinstance(value, str | bytes))
    if not is_number or _is_boolean(value) or _dimensions(value) > 0:
        raise _WrongTypeError("a number")
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError) as error:
        raise _WrongTypeError("a number") from error


def _number(value: Any) -> float:
    number = _real(value)
    if not math.isfinite(number):
        raise _WrongTypeError("a finite number")
    return number


def _boolean(value: Any) -> bool:
    if not _is_boolean(value):
        raise _WrongTypeError("true or false")
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _WrongTypeError("a text")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str | PurePath) or not str(value):
        raise _WrongTypeError("a path")
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not _is_list(value) or not all(isinstance(one, str) for one in value):
        raise _WrongTypeError("a text or a list of texts")
    return tuple(value)


def _token_ids(value: Any) -> tuple[int, ...]:
    if not _is_list(value):
        raise _WrongTypeError("a list of token ids")
    return tuple(_token_id(one) for one in value)


def _token_id(value: Any) -> int:
    try:
        return _whole(value, 0, (1 << 63) - 1)
    except _WrongTypeError as error:
        raise _WrongTypeError("made of token ids, which are integers from 0") from error


def _token_key(value: Any) -> int:
    """A token id as the key of an object."""
    is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20
    return _token_id(int(value) if is_text else value)


def _biases(value: Any) -> dict[int, float]:
    """Biases by token id. float32 ends at 3.4e38, and plus infinity would leave no choice."""
    if not isinstance(value, Mapping):
        raise _WrongTypeError("an object of numbers by token id")
    ids = [_token_key(one) for one in value]
    if len(set(ids)) != len(ids):
        raise _WrongTypeError("an object that names no token twice")
    numbers = [_real(one) for one in value.values()]
    if not all(abs(one) <= 3e38 or one == -math.inf for one in numbers):
        raise _WrongTypeError("made of numbers of float32, or minus infinity to exclude a token")
    return dict(zip(ids, numbers, strict=True))


def _tree(value: Any) -> TreeSpec:
    """A tree, or the parents of its nodes."""
    if isinstance(value, TreeSpec):
        return value
    if not _is_list(value):
        raise _WrongTypeError("a tree: a list with the parent of each node")
    parents = tuple(_whole(one, -1, MAX_TREE_NODES - 1) for one in value)
    try:
        return TreeSpec(parents)
    except ValueError as error:
        raise _WrongTypeError(f"a tree, but {error}") from error


def _shares(value: Any) -> tuple[float, ...]:
    if not _is_list(value):
        raise _WrongTypeError("a list of numbers from 0 to 1")
    shares = tuple(_number(one) for one in value)
    if not all(0 <= one <= 1 for one in shares):
        raise _WrongTypeError("made of numbers from 0 to 1")
    return shares


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value):
        raise _WrongTypeError("an object")
    return dict(value)


def _objects(value: Any) -> tuple[dict[str, Any], ...]:
    if isinstance(value, Mapping) or not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise _WrongTypeError("a list of objects")
    try:
        return tuple(_object(one) for one in value)
    except _WrongTypeError as error:
        raise _WrongTypeError("a list of objects") from error


READERS: Mapping[str, Callable[[Any], Any]] = {
    "bool": _boolean,
    "bool | None": _boolean,
    "int": _integer,
    "int | None": _integer,
    "Seed | None": _seed,
    "float": _number,
    "float | None": _number,
    "str": _text,
    "str | None": _text,
    "str | Path | None": _path,
    "str | Sequence[str]": _texts,
    "Sequence[int]": _token_ids,
    "TreeSpec | None": _tree,
    "Sequence[float] | None": _shares,
    "Mapping[int, float]": _biases,
    "Mapping[str, Any]": _object,
    "Sequence[Mapping[str, Any]] | None": _objects,
}
"""Readers of values, by the type that is written in the field."""


def _shown(value: Any) -> str:
    """A value's repr, shortened; Python refuses it for integers of thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        text = "a number of very many digits"
    return text if len(text) <= 80 else f"{text[:80]}..."
