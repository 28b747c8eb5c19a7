"""`ptgc bench`: compares a bundle's strategy with plain decoding and with other engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptgc.cli.console import command_errors, notes, print_json, results
from ptgc.cli.options import AsJson, BundlePath, Datastore, DraftLength, NumThreads, Prompts, names


def command(
    bundle: BundlePath,
    prompts: Prompts = None,
    num_prompts: Annotated[
        int | None, typer.Option(min=1, help="How many prompts of each set to use; by default all.")
    ] = None,
    build: Annotated[
        str | None,
        typer.Option(metavar="ID,...", help="Builds to measure, of different precisions; by default the newest."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="PEER,...",
            help="Peers: autoregressive, transformers, onnxruntime-genai, openvino-genai, llama.cpp, ctranslate2; "
            "with --model, by default all installed ones.",
        ),
    ] = None,
    plain_bundle: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="A bundle of strategy autoregressive to measure too.")
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(metavar="BUNDLE,...", help="Further bundles of the same model, whose strategies to measure too."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Directory of the bundle's original, for peers.")
    ] = None,
    drafter: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Directory of a drafter, for peers.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each text.")] = 96,
    repeats: Annotated[int, typer.Option(min=1, help="How often each text is written.")] = 3,
    draft_length: DraftLength = None,
    datastore: Datastore = None,
    num_threads: NumThreads = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the whole report as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure tokens per second, accept length and speedup on the same prompts, all engines in turns."""
    with command_errors(as_json):
        from ptgc.bench.bench import bench
        from ptgc.bench.options import BenchOptions
        from ptgc.bench.report_file import check_report, write_report
        from ptgc.bench.table import print_tables

        check_report(report)
        options = BenchOptions(
            builds=names(build),
            prompts=names(prompts),
            num_prompts=num_prompts,
            against=None if against is None else names(against),
            plain_bundle=plain_bundle,
            beside=tuple(map(Path, names(beside))),
            model=model,
            drafter=drafter,
            max_new_tokens=max_new_tokens,
            repeats=repeats,
            draft_length=draft_length,
            datastore=datastore,
            num_threads=num_threads,
        )
        found = bench(bundle, options, notes)
        write_report(found, report)
        if as_json:
            print_json({name: value for name, value in found.items() if name != "texts"})
        else:
            print_tables(found, results)
