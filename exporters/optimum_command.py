"""`optimum-cli export ptgc`: the exporter as a command of optimum's own command line."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo

from ptgc.errors import PtgcError
from ptgc.exporters.export_options import ExportOptions


class PtgcExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]  # optimum has no stubs
    """Trace a checkpoint into a bundle, with the spelling of optimum's other exporters."""

    COMMAND = CommandInfo(name="ptgc", help="Export a text generator to a ptgc bundle of standard ONNX graphs.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare the options: optimum's own, and one for each field of ExportOptions."""
        parser.add_argument("-m", "--model", required=True, help="Local directory, GGUF file, or hub id.")
        parser.add_argument("--revision", help="Branch, tag or commit of a hub id.")
        parser.add_argument("--trust-remote-code", action="store_true", help="Let code of the checkpoint run.")
        parser.add_argument("--force", action="store_true", help="Replace a bundle of that name.")
        parser.add_argument("output", type=Path, help="Where the bundle will be.")
        for name, kind in _option_types().items():
            choices = [member.value for member in kind] if issubclass(kind, Enum) else None
            parser.add_argument(
                f"--{name.replace('_', '-')}", type=str if choices else kind, choices=choices, help="As in ptgc export."
            )

    def run(self) -> None:
        """Export; what the user can fix is printed without a traceback."""
        from ptgc.exporters import export_checkpoint

        given: Any = self.args
        kinds = _option_types()
        values = {name: getattr(given, name) for name in kinds}
        options = ExportOptions(**{n: v if v is None else kinds[n](v) for n, v in values.items()})
        try:
            export_checkpoint(
                given.model,
                given.output,
                options,
                revision=given.revision,
                trust_remote_code=given.trust_remote_code,
                force=given.force,
                progress=lambda step: _say(f"{step} ..."),
                note=lambda text: _say(f"Note: {text}"),
            )
        except PtgcError as error:
            _say(f"Error: {error}")
            sys.exit(1)


def _option_types() -> dict[str, Any]:
    """The type of each option, without the None that every one may be."""
    hints = get_type_hints(ExportOptions)
    return {field.name: get_args(hints[field.name])[0] for field in fields(ExportOptions)}


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
