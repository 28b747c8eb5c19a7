"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptgc.errors import UsageError
from ptgc.spec.bundle import BUILDS, MEASURED
from ptgc.spec.staging import sweep, sweep_scratch
from ptgc.spec.threads import check_num_threads


def _num_threads(given: int | None) -> int | None:
    try:
        return None if given is None else check_num_threads(given)
    except UsageError as error:
        raise typer.BadParameter(error.message) from error


def _swept(bundle: Path) -> Path:
    """The same; what killed commands left beside the bundle and in it is gone."""
    for folder in (bundle.absolute().parent, bundle / BUILDS, *bundle.glob(f"{BUILDS}/*/{MEASURED}")):
        sweep(folder)
    sweep_scratch()
    return bundle


BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's directory.", callback=_swept)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
BuildId = Annotated[str | None, typer.Option("--build", metavar="ID", help="Which build; by default the newest.")]
Device = Annotated[str, typer.Option(help="Kind of device: cpu.")]
NumThreads = Annotated[
    int | None, typer.Option(callback=_num_threads, help="Threads of the engine; by default the processors at hand.")
]
DraftLength = Annotated[
    str | None,
    typer.Option(
        metavar="measured|fixed",
        help="Draft as many tokens as the measured costs say will pay (default), or as many as there are.",
    ),
]

Prompts = Annotated[
    str | None,
    typer.Option(
        metavar="FILE,...", help="Files of prompts, or sets: chat, code, code-edit, copy-heavy, story; first three."
    ),
]


def names(text: str | None) -> tuple[str, ...]:
    """The parts of a list with commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
