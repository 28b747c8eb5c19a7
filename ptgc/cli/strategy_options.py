"""Makes the options of `ptgc export` from the dataclasses of strategies."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_type_hints

import typer
import typer.core
import typer.main

from ptgc.cli import export
from ptgc.cli.console import command_errors
from ptgc.errors import ExportError
from ptgc.spec.options import Option, options_of
from ptgc.spec.strategies import find_strategy, strategy_names
from ptgc.spec.strategies.base import Strategy
from ptgc.spec.strategies.choice import DEFAULTS

_HELP = ("--help", "-h")


class Commands(typer.core.TyperGroup):
    """The commands of ptgc; the options of `export` depend on the strategy that its arguments name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments name, and the arguments behind it."""
        name, found, rest = super().resolve_command(ctx, args)
        if name == "export":
            with command_errors("--json" in rest):
                found = export_command(rest)
        return name, found, rest


def export_command(arguments: Sequence[str]) -> Any:
    """`ptgc export` with the options of the strategy that its arguments name, or of the default strategies.

    Raises:
        UsageError: There is no such strategy.
        ExportError: The strategy's package cannot be imported.
    """
    named = _named_strategy(arguments)
    shown = [find_strategy(name) for name in ((named,) if named is not None else DEFAULTS)]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    settings = {"ignore_unknown_options": True, "allow_extra_args": True}  # the command reports them all at once
    text = _help(shown[0] if named is not None else None) if any(one in arguments for one in _HELP) else None
    app.command("export", context_settings=settings, help=text)(_with_options(shown))
    return typer.main.get_command(app)


def _named_strategy(arguments: Sequence[str]) -> str | None:
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if argument == "--":
            return None
        if option == "--strategy" and (equals or index + 1 < len(arguments)):
            return value if equals else arguments[index + 1]
    return None


def _with_options(strategies: Sequence[Strategy]) -> Callable[..., None]:
    """The command's function with the signature that typer reads."""

    def made(**values: Any) -> None:
        export.command(**values)

    hints = get_type_hints(export.command, include_extras=True)
    parameters = {
        name: parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(export.command).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    for strategy in strategies:
        for option in options_of(strategy.options):
            parameters.setdefault(option.name, _parameter(option, strategy))
    made.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]  # typer reads it
    made.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    made.__doc__ = export.command.__doc__
    return made


def _parameter(option: Option, strategy: Strategy) -> inspect.Parameter:
    metavar = "MODEL" if option.names_checkpoint else None
    panel = f"Options of {strategy.name}"
    names = (option.flag,) if option.default is False else ()  # without a --no-... that would say the default
    shown: Any = typer.Option(*names, help=option.described, metavar=metavar, rich_help_panel=panel)
    kind: Any = str if hasattr(option.kind, "parse") else option.kind
    annotation = Annotated[kind | None, shown]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _help(named: Strategy | None) -> str:
    """The help text: what the command does, and which strategies exist."""
    parts = [inspect.cleandoc(export.command.__doc__ or "")]
    if named is not None:
        source = f" Source: {named.source}." if named.source else ""
        parts.append(f"{named.name} ({named.guarantee.value}): {named.summary}{source}")
    others = [name for name in strategy_names() if named is None or name != named.name]
    parts.append("Other strategies:" if named is not None else "Strategies:")
    parts += [_line(name) for name in others]
    parts.append("The options of one: ptgc export --strategy NAME --help")
    return "\n\n".join(parts)


def _line(name: str) -> str:
    """A strategy's line in the list, or the error if its package is broken."""
    try:
        strategy = find_strategy(name)
    except ExportError as error:
        return f"{name}: {error.message}"
    return f"{name} ({strategy.guarantee.value}): {strategy.summary}"
