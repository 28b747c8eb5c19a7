"""`ptgc check`: is what was built what was trained?"""

from __future__ import annotations

import typer
from rich.table import Table

from ptgc.cli.console import command_errors, print_json, progress, results
from ptgc.cli.options import AsJson, BundlePath


def command(bundle: BundlePath, as_json: AsJson = False) -> None:
    """Compare every stage of a bundle with the texts that PyTorch wrote at export."""
    with command_errors(as_json):
        from ptgc.compiler.check import StageReport, check_bundle

        with progress() as step:
            reports = check_bundle(bundle, step)
        if as_json:
            print_json({"stages": [report.to_json() for report in reports]})
        else:
            _show(reports)
        failed: StageReport | None = next((report for report in reports if not report.passed), None)
        if failed is None:
            return
        if not as_json:
            results.print(f"First difference: {failed.stage}: {failed.divergences[0]}", soft_wrap=True, markup=False)
        raise typer.Exit(1)


def _show(reports: list) -> None:  # type: ignore[type-arg]  # of StageReport, imported with the compiler
    table = Table("stage", "same as the original", "largest logit difference", "verdict")
    for report in reports:
        share = f"{report.kept} of {report.tokens} tokens" if report.tokens else "-"
        verdict = ("exact" if report.exact else "consistent") if report.passed else "differs"
        difference = f"{report.largest_difference:.2g}" if report.largest_difference else "-"
        table.add_row(report.stage, share, difference, verdict)
    results.print(table)
