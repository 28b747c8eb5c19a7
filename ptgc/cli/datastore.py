"""`ptgc datastore`: makes a datastore of texts, for strategies that draft from one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptgc.cli.console import command_errors, megabytes, notes, print_json, progress, results
from ptgc.cli.options import AsJson
from ptgc.errors import UsageError

if TYPE_CHECKING:
    from ptgc.texts.datastore import Datastore


def command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT...",
            help="Text files, each a document, .jsonl files, each of whose lines is one, and folders of them; - is "
            "stdin.",
        ),
    ],
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE|CHECKPOINT", help="Whose tokenizer to use: that of the model to be run."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="The datastore.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file of that name.")] = False,
    info: Annotated[bool, typer.Option("--info", help="Show what a datastore holds, and make none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a datastore of texts, from which `run --datastore FILE` drafts; or show what is in one."""
    with command_errors(as_json):
        from ptgc.texts.datastore import Datastore, find_tokenizer, make_datastore

        if info:
            if len(files) > 1 or tokenizer is not None or output is not None:
                raise UsageError("--info takes one datastore, and no other options.", "ptgc datastore FILE --info")
            _show(Datastore.open(files[0]), as_json)
            return
        if tokenizer is None or output is None:
            raise UsageError("A datastore needs --tokenizer and --output.", "Name the bundle that will use it.")
        with progress() as step:
            made = make_datastore(
                files,
                find_tokenizer(tokenizer),
                output,
                force=force,
                progress=step,
                note=lambda text: notes.print(f"Note: {text}", markup=False, soft_wrap=True),
            )
        _show(made, as_json)


def _show(found: Datastore, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "datastore": str(found.path),
                "bytes": found.size,
                "documents": found.documents,
                "tokens": found.tokens,
                "vocab_size": found.vocab_size,
                "vocabulary_sha256": found.vocabulary_sha256,
            }
        )
        return
    results.print(
        f"{found.path}: {megabytes(found.size)}, {found.documents:,} documents, {found.tokens:,} tokens of a "
        f"vocabulary of {found.vocab_size:,} ({found.vocabulary_sha256[:12]})",
        markup=False,
        soft_wrap=True,
    )
