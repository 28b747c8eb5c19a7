"""The table of strategies: built-in ones, and those of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from ptgc.errors import ExportError, UsageError
from ptgc.spec.strategies.base import Strategy

ENTRY_POINTS = "ptgc.strategies"
"""Entry points of other packages: `NAME = "module:STRATEGY"`."""

BUILT_IN = (
    "autoregressive",
    "ngram",
    "suffix",
    "datastore",
    "recycling",
    "jacobi",
    "lookahead",
    "draft-model",
    "layer-skip",
    "pard",
    "medusa",
    "hydra",
    "mlp-speculator",
    "eagle",
    "eagle3",
    "mtp",
    "dflash",
    "masked-diffusion",
    "block-diffusion",
    "ctc",
    "levenshtein",
)
"""Strategies of this package; each one's module has its name."""


def strategy_names() -> tuple[str, ...]:
    """Every available strategy."""
    return (*BUILT_IN, *_foreign())


def find_strategy(name: str) -> Strategy:
    """A strategy by name.

    Raises:
        UsageError: There is none of that name.
        ExportError: Its package cannot be imported, or has something else under this name.
    """
    if name in BUILT_IN:
        found: Strategy = import_module(f"{__name__}.{name.replace('-', '_')}").STRATEGY
        return found
    foreign = _foreign()
    if name not in foreign:
        raise UsageError(f"There is no strategy '{name}'; there are: {', '.join(strategy_names())}.")
    return _loaded(foreign[name])


def _foreign() -> Mapping[str, EntryPoint]:
    """Strategies of other packages; names already taken, by ptgc or an earlier package, are left out."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (_package(entry), entry.value)):
        if entry.name not in BUILT_IN:
            found.setdefault(entry.name, entry)
    return found


def _loaded(entry: EntryPoint) -> Strategy:
    try:
        found = entry.load()
    except Exception as error:
        raise _broken(entry, f"{entry.value} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, Strategy):
        raise _broken(entry, f"{entry.value} is a {type(found).__name__}, no ptgc.spec.strategies.base.Strategy")
    if found.name != entry.name:
        raise _broken(entry, f"{entry.value} calls itself '{found.name}'")
    return found


def _broken(entry: EntryPoint, what: str) -> ExportError:
    package = _package(entry)
    return ExportError(
        f"Strategy '{entry.name}' of the package '{package}' cannot be used: {what}.",
        f"Repair or remove that package: pip install --upgrade {package}, or pip uninstall {package}",
    )


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else ""
