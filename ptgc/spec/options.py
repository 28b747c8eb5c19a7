"""Options of a strategy: turns the fields of a frozen dataclass into options of the command line and of calls.

    num_steps: Annotated[int, Range(1, MAX_ROUNDS)] = 16
    '''Rounds that fill a canvas.'''

becomes `--num-steps`, an integer in that range, with that help text. Fields are of type int, float, str, bool, Path, an
enum, or a class that makes itself of a text (`parse`), or one of these or None. A class whose fields must fit each
other has `problems()`, which returns sentences.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

from ptgc.errors import UsageError
from ptgc.spec.fields import Rule


@dataclass(frozen=True)
class NamesCheckpoint:
    """Marks an option that names a checkpoint: a local directory, GGUF file or hub id."""


CheckpointName = Annotated[str, NamesCheckpoint()]


@dataclass(frozen=True)
class Option:
    """One option of a strategy."""

    name: str
    """The field."""
    kind: type[Any]
    """int, float, str, bool, Path, an enum, or a class with `parse`."""
    default: Any
    """The value if it is not given; MISSING if it must be given."""
    help: str
    """The help text."""
    rules: tuple[Rule, ...] = ()
    """What a value must be, in addition to its type."""
    names_checkpoint: bool = False
    """Whether it names a checkpoint."""

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return flag(self.name)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of an enum; empty for other types."""
        return tuple(one.value for one in self.kind) if issubclass(self.kind, Enum) else ()

    @property
    def described(self) -> str:
        """The help text with the default."""
        default = self.default.value if isinstance(self.default, Enum) else self.default
        return self.help if default in (None, False, MISSING) else f"{self.help} Default: {default}."

    def read(self, value: Any) -> Any:
        """Convert and check a value.

        Args:
            value: A value of the option's type, or the spelling of an enum value or path.

        Raises:
            ValueError: It is not such a value, or out of range; the message is a sentence.
        """
        if value is None and self.default is None:
            return None
        try:
            made = self._converted(value)
        except ValueError as error:
            raise ValueError(f"{self.flag} is {value!r}: {error}.") from error
        if made is None:
            wanted = f"one of {', '.join(self.choices)}" if self.choices else _WORDS.get(self.kind, "a text")
            raise ValueError(f"{self.flag} is {value!r}; it must be {wanted}.")
        for rule in self.rules:
            problem = rule.problem(made)
            if problem is not None:
                raise ValueError(f"{self.flag} is {made}; it {problem}.")
        return made

    def _converted(self, value: Any) -> Any:
        """The value as its type; None if it is not of that type."""
        if isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool)):
            return value
        if self.choices and value in self.choices:
            return self.kind(value)
        if self.kind is float and type(value) is int:
            return float(value)
        parse = getattr(self.kind, "parse", None)
        if parse is not None and isinstance(value, str):
            return parse(value)
        return Path(value) if self.kind is Path and isinstance(value, str) else None


_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false", Path: "a path"}


def flag(name: str) -> str:
    """A field's name on the command line."""
    return f"--{name.replace('_', '-')}"


def options_of(kind: type[Any]) -> tuple[Option, ...]:
    """The options that a dataclass describes, in the order of its constructor."""
    hints, docs = get_type_hints(kind, include_extras=True), _docs(kind)
    found = []
    for field in _fields(kind):
        hint, rules = _without_none(hints[field.name]), tuple[Any, ...]()
        if get_origin(hint) is Annotated:
            hint, *annotations = get_args(hint)
            rules = tuple(annotations)
        named = any(isinstance(rule, NamesCheckpoint) for rule in rules)
        checks = tuple(rule for rule in rules if hasattr(rule, "problem"))
        found.append(Option(field.name, hint, field.default, docs.get(field.name, ""), checks, named))
    return tuple(found)


def make_options(kind: type[Any], values: Mapping[str, Any], strategy: str) -> Any:
    """An object of a strategy's options.

    Args:
        kind: Its dataclass.
        values: The given values, by field name.
        strategy: The strategy's name, for messages.

    Raises:
        UsageError: Options are unknown or missing, or values are out of range; the error names all of them.
    """
    known = {option.name: option for option in options_of(kind)}
    problems, wrong, read = [], [], {}
    foreign = [flag(name) for name in values if name not in known]
    if foreign:
        has = ", ".join(option.flag for option in known.values()) or "no options"
        problems.append(f"Strategy '{strategy}' takes no {', '.join(foreign)}; it has {has}.")
    missing = [option for option in known.values() if option.default is MISSING and option.name not in values]
    problems += [f"Strategy '{strategy}' needs {option.flag}: {option.help}" for option in missing]
    for name in (name for name in known if name in values):
        try:
            read[name] = known[name].read(values[name])
        except ValueError as error:
            wrong.append(str(error))
    made = None if missing or wrong else kind(**read)
    problems += [*wrong, *getattr(made, "problems", list)()]
    if problems:
        raise UsageError("\n".join(problems))
    return made


def values_of(options: Any) -> dict[str, Any]:
    """An object of options as a mapping by field name."""
    return {field.name: getattr(options, field.name) for field in _fields(type(options))}


def checkpoint_options(kind: type[Any]) -> list[str]:
    """The options of a dataclass that name checkpoints."""
    return [option.name for option in options_of(kind) if option.names_checkpoint]


def checkpoints_of(options: Any) -> dict[str, str]:
    """The checkpoints that options name, by field."""
    named = checkpoint_options(type(options))
    return {name: value for name in named if (value := getattr(options, name)) is not None}


def _fields(kind: type[Any]) -> list[Field[Any]]:
    """The fields of a class in the order of its constructor, which takes those by keyword last."""
    return sorted(fields(kind), key=lambda one: one.kw_only is True)


def _without_none(hint: Any) -> Any:
    """The type of a field that may be None."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(one for one in get_args(hint) if one is not type(None))
    return hint


def _docs(kind: type[Any]) -> dict[str, str]:
    """The docstrings below the fields of a class and of those that it derives from."""
    return {name: text for one in reversed(kind.__mro__[:-1]) for name, text in _field_docs(one).items()}


def _field_docs(kind: type[Any]) -> dict[str, str]:
    """The docstrings below the fields of a class itself; empty if its source is not available."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body: Sequence[ast.stmt] = cast("ast.ClassDef", tree.body[0]).body
    found = {}
    for before, after in pairwise(body):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr):
            text = after.value.value if isinstance(after.value, ast.Constant) else None
            if isinstance(text, str):
                found[before.target.id] = " ".join(text.split())
    return found
