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
    """Remove what killed commands left beside and inside the bundle; returns its path."""
    for folder in (bundle.absolute().parent, bundle / BUILDS, *bundle.glob(f"{BUILDS}/*/{MEASURED}")):
        sweep(folder)
    sweep_scratch()
    return bundle


BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's directory.", callback=_swept)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
BuildId = Annotated[str | None, typer.Option("--build", metavar="ID", help="Which build; by default the newest.")]
Device = Annotated[str, typer.Option(help="Kind of device: cpu.")]
NumThreads = Annotated[
    int | None, typer.Option(callback=_num_threads, help="Threads of the engine; by default all available processors.")
]
Datastore = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The datastore to draft from, for bundles that do; see ptgc datastore."),
]
DraftLength = Annotated[
    str | None,
    typer.Option(
        metavar="measured|fixed",
        help="How many tokens to draft: as many as pay by the measured costs (default), or always the most.",
    ),
]

Prompts = Annotated[
    str | None,
    typer.Option(
        metavar="FILE,...",
        help="Prompt files or sets: chat, code, code-edit, copy-heavy, story; by default the first three.",
    ),
]


def names(text: str | None) -> tuple[str, ...]:
    """The parts of a comma-separated list."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
