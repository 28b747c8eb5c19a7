"""`optimum-cli export ptgc`: the exporter as a command of optimum's own command line."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo

from ptgc.errors import PtgcError
from ptgc.spec.options import Option, options_of
from ptgc.spec.strategies import BUILT_IN, find_strategy


class PtgcExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]  # optimum has no stubs
    """Trace a checkpoint into a bundle, with the option names of optimum's other exporters."""

    COMMAND = CommandInfo(name="ptgc", help="Export a text generator to a ptgc bundle of standard ONNX graphs.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare the options: those of optimum's exporters, and those of ptgc's built-in strategies."""
        parser.add_argument("-m", "--model", required=True, help="Local directory, GGUF file, or hub id.")
        parser.add_argument("--revision", help="Branch, tag or commit of a hub id.")
        parser.add_argument("--trust-remote-code", action="store_true", help="Let code from the checkpoint run.")
        parser.add_argument("--force", action="store_true", help="Replace an existing bundle.")
        parser.add_argument("output", type=Path, help="Path of the bundle to write.")
        parser.add_argument("--strategy", help="How the bundle generates; by default chosen from the model.")
        for option in _options().values():
            kind = str if option.choices else option.kind
            parser.add_argument(option.flag, type=kind, choices=option.choices or None, help=option.help)

    def run(self) -> None:
        """Export; errors that the user can fix are printed without a traceback."""
        from ptgc.exporters import export_checkpoint

        given: Any = self.args
        options = {name: value for name in _options() if (value := getattr(given, name)) is not None}
        try:
            export_checkpoint(
                given.model,
                given.output,
                options,
                strategy=given.strategy,
                revision=given.revision,
                trust_remote_code=given.trust_remote_code,
                force=given.force,
                progress=lambda step: _say(f"{step} ..."),
                note=lambda text: _say(f"Note: {text}"),
            )
        except PtgcError as error:
            _say(f"Error: {error}")
            sys.exit(1)


def _options() -> dict[str, Option]:
    """The options of all strategies by name; if several share a name, the first one."""
    found = dict[str, Option]()
    for name in BUILT_IN:
        for option in options_of(find_strategy(name).options):
            found.setdefault(option.name, option)
    return found


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
