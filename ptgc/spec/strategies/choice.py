"""Choice: a strategy with its options, as far as the caller has given them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ptgc.errors import ExportError, UsageError
from ptgc.spec.options import make_options, options_of, values_of
from ptgc.spec.strategies import find_strategy, strategy_names
from ptgc.spec.strategies.base import Strategy

DEFAULTS = ("ngram", "masked-diffusion", "block-diffusion")
"""The strategies to choose from if none is named; the first that fits the checkpoint is taken."""


@dataclass(frozen=True)
class Choice:
    """A strategy and its options, checked."""

    strategy: Strategy
    """How a bundle will generate."""
    options: Any
    """An object of the strategy's options."""


def possible_choices(strategy: str | None, options: object | None) -> tuple[Choice, ...]:
    """The choices that a caller may mean; several if the checkpoint decides.

    Args:
        strategy: A name; None for that of `options`, or whatever fits the checkpoint.
        options: An object of a strategy's options, or a mapping of some of them by name.

    Raises:
        UsageError: There is no such strategy, or options are unknown, missing or out of range; all of them are named.
        ExportError: The strategy's package cannot be imported.
    """
    if options is None or isinstance(options, Mapping):
        values: Mapping[str, Any] = options or {}
    else:
        strategy, values = strategy or _strategy_of(options), values_of(options)
    if strategy is not None:
        return (_choice(strategy, values),)
    found, errors = [], {}
    for name in DEFAULTS:
        try:
            found.append(_choice(name, values))
        except UsageError as error:
            errors[name] = error
    if found:
        return tuple(found)
    having = [name for name in DEFAULTS if _has_all(name, values)]
    raise errors[having[0]] if having else UsageError("\n".join(error.message for error in errors.values()))


def _choice(name: str, values: Mapping[str, Any]) -> Choice:
    strategy = find_strategy(name)
    return Choice(strategy, make_options(strategy.options, values, name))


def _has_all(name: str, values: Mapping[str, Any]) -> bool:
    return values.keys() <= {option.name for option in options_of(find_strategy(name).options)}


def _strategy_of(options: object) -> str:
    """The strategy whose options these are."""
    for name in strategy_names():
        try:
            if find_strategy(name).options is type(options):
                return name
        except ExportError:
            continue
    raise UsageError(f"{type(options).__name__} is no strategy's options; there are: {', '.join(strategy_names())}.")
