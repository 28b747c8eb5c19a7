"""`ptgc check`: checks that builds compute what the original model computes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ptgc.cli.console import command_errors, compiler_missing, notes, print_json, progress, results
from ptgc.cli.options import AsJson, BundlePath, Datastore
from ptgc.errors import BackendError
from ptgc.extras import how_to_install
from ptgc.spec.bundle import Bundle, open_bundle

_SHOWN = 3  # divergences to show of the first stage that differs


def command(
    bundle: BundlePath,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT", help="What the bundle was exported from; PyTorch's texts are then compared too."
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text or prompts (.jsonl) to measure the fidelity of quantised builds on, 8192 tokens spread over "
            "it; by default the bundle's reference texts.",
        ),
    ] = None,
    datastore: Datastore = None,
    as_json: AsJson = False,
) -> None:
    """Compare every stage of a bundle with the texts that PyTorch wrote at export."""
    with command_errors(as_json):
        try:
            from ptgc.compiler.checking.check import check_bundle
            from ptgc.compiler.checking.report import StageReport
        except ImportError as error:
            raise compiler_missing("Checking", error) from error
        with progress() as step:
            step("Opening the bundle")
            original = _original(open_bundle(bundle), model)
            reports = check_bundle(bundle, step, original=original, text=text, datastore=datastore)
        if as_json:
            print_json({"stages": [report.to_json() for report in reports]})
        else:
            _show(reports)
        failed: StageReport | None = next((report for report in reports if not report.passed), None)
        if failed is None:
            return
        if not as_json:
            _show_failure(failed)
        raise typer.Exit(1)


def _original(bundle: Bundle, model: str | None) -> dict[str, Any] | None:
    """What PyTorch writes now; None if PyTorch or the checkpoint is not available."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        if model is not None:
            raise BackendError(
                "Comparing with PyTorch needs torch and transformers.", f"Install them: {how_to_install('export')}"
            )
        return None
    provenance = bundle.manifest.provenance
    if model is None and "revision" not in provenance:
        return None  # exported from modules
    from ptgc.exporters.references.parity import find_source, original_texts

    origin: str | Path | None = model or find_source(provenance)
    return None if origin is None else original_texts(bundle, origin)


def _show(reports: list) -> None:  # type: ignore[type-arg]  # of StageReport, imported with the compiler
    table = Table("stage", "same as the original", "largest logit difference", "verdict")
    for report in reports:
        share = f"{report.kept} of {report.tokens} tokens" if report.tokens else "-"
        difference = f"{report.largest_difference:.2g}" if report.largest_difference else "-"
        table.add_row(report.stage, share, difference, report.verdict)
    results.print(table)
    _show_fidelity([report for report in reports if report.fidelity is not None])
    for report in reports:
        for text in report.undecided:
            notes.print(f"{report.stage}: {text}", markup=False, soft_wrap=True)


def _show_fidelity(reports: list) -> None:  # type: ignore[type-arg]  # as above
    if not reports:
        return
    table = Table("fidelity", "tokens", "divergence (nats)", "kept", "perplexity", "original's")
    for report in reports:
        found = report.fidelity
        numbers = f"{found.divergence:.4f}", f"{found.kept:.1%}", f"{found.perplexity:.2f}"
        table.add_row(report.stage, str(found.tokens), *numbers, f"{found.original_perplexity:.2f}")
    results.print(table)


def _show_failure(failed: Any) -> None:
    results.print(f"First difference: {failed.stage}: {failed.divergences[0]}", soft_wrap=True, markup=False)
    for text in failed.divergences[1:_SHOWN]:
        results.print(f"  {text}", soft_wrap=True, markup=False)
    if len(failed.divergences) > _SHOWN:
        results.print(f"  and {len(failed.divergences) - _SHOWN} more", markup=False)
    if failed.hint:
        results.print(f"In the graph: {failed.hint}", soft_wrap=True, markup=False)
