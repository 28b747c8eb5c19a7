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
    """Trace a checkpoint into a bundle, with the spelling of optimum's other exporters."""

    COMMAND = CommandInfo(name="ptgc", help="Export a text generator to a ptgc bundle of standard ONNX graphs.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare the options: optimum's own, and those of every strategy of ptgc's own."""
        parser.add_argument("-m", "--model", required=True, help="Local directory, GGUF file, or hub id.")
        parser.add_argument("--revision", help="Branch, tag or commit of a hub id.")
        parser.add_argument("--trust-remote-code", action="store_true", help="Let code of the checkpoint run.")
        parser.add_argument("--force", action="store_true", help="Replace a bundle of that name.")
        parser.add_argument("output", type=Path, help="Where the bundle will be.")
        parser.add_argument("--strategy", help="How the bundle generates; by default what the model is for.")
        for option in _options().values():
            kind = str if option.choices else option.kind
            parser.add_argument(option.flag, type=kind, choices=option.choices or None, help=option.help)

    def run(self) -> None:
        """Export; what the user can fix is printed without a traceback."""
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
    """The options of every strategy by name; the first of that name where several have it."""
    found = dict[str, Option]()
    for name in BUILT_IN:
        for option in options_of(find_strategy(name).options):
            found.setdefault(option.name, option)
    return found


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
