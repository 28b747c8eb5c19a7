"""`ptgc pack`: copies what the runtime reads of a bundle, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptgc.cli.console import command_errors, megabytes, print_json, progress, results
from ptgc.cli.options import AsJson, BundlePath


def command(
    bundle: BundlePath,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory of the packed bundle.")],
    build: Annotated[
        str | None, typer.Option(metavar="ID,...", help="Builds to take, comma-separated; by default the newest.")
    ] = None,
    keep_references: Annotated[
        bool, typer.Option("--keep-references", help="Keep the reference texts, so that `ptgc check` works.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a bundle without the files that only building and checking need."""
    with command_errors(as_json):
        from ptgc.compiler.build.pack import pack

        names = [part.strip() for part in (build or "").split(",") if part.strip()]
        with progress() as step:
            packed = pack(bundle, output, names, keep_references=keep_references, force=force, progress=step)
        before, after = _size(bundle), _size(output)
        taken = [one.manifest.id for one in packed.builds()]
        if as_json:
            print_json({"bundle": str(output), "builds": taken, "bytes": after, "bytes_before": before})
        else:
            results.print(
                f"{output}: {megabytes(after)} of {megabytes(before)}, builds {', '.join(taken)}",
                soft_wrap=True,
                markup=False,
            )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
