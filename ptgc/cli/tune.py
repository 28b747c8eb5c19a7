"""`ptgc tune`: finds the fastest settings of a bundle on this device, for given prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ptgc.cli.console import command_errors, compiler_missing, notes, print_json, progress, results
from ptgc.cli.options import AsJson, BundlePath, Datastore, Prompts, names
from ptgc.cli.token_tree import show_tree
from ptgc.compiler.precision.precision import MAX_DIVERGENCE
from ptgc.errors import UsageError

if TYPE_CHECKING:
    from ptgc.compiler.tuning.tune import Observed, Tuned
    from ptgc.compiler.tuning.way import Way

_PAYS = 0.99  # drafts pay if they take less than this share of plain decoding's time


def command(
    bundle: BundlePath,
    prompts: Prompts = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="How many prompts of each set to use.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of each text.")] = 64,
    build: Annotated[
        str | None, typer.Option(metavar="ID,...", help="Builds to choose from; by default all for one sequence.")
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N,...", help="Numbers of threads to try; by default all available processors, half and a quarter."
        ),
    ] = None,
    max_divergence: Annotated[
        float, typer.Option(metavar="NATS", help="The most that a build may have lost, if there are several.")
    ] = MAX_DIVERGENCE,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Text that this loss is measured on; by default the bundle's reference texts."
        ),
    ] = None,
    datastore: Datastore = None,
    as_json: AsJson = False,
) -> None:
    """Choose build, drafter, threads, and draft tokens or their tree, by measured rounds and accepted drafts.

    `run` then uses them.
    """
    with command_errors(as_json):
        try:
            from ptgc.compiler.tuning.tune import TuneOptions, tune
        except ImportError as error:
            raise compiler_missing("Tuning", error) from error
        options = TuneOptions(
            builds=names(build),
            prompts=names(prompts),
            num_prompts=num_prompts,
            max_new_tokens=max_new_tokens,
            threads=_threads(threads),
            max_divergence=max_divergence,
            text=text,
            datastore=datastore,
        )
        with progress() as step:
            tuned = tune(bundle, options, step)
        if as_json:
            print_json(_document(tuned))
        else:
            _show(tuned, bundle)


def _threads(text: str | None) -> tuple[int, ...]:
    parts = names(text)
    if not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise UsageError(f"--threads is '{text}'; it must be numbers from 1 to 4096 with commas between.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _document(tuned: Tuned) -> dict[str, Any]:
    return {
        "rows": [_row(way, _observed(tuned, way)) for way in tuned.ways],
        "chosen": _row(tuned.chosen, _observed(tuned, tuned.chosen)),
        "acceptance": list(tuned.tuning.acceptance),
        "overlap": tuned.tuning.overlap,
        "tokens_per_round": tuned.tokens_per_round,
        "measured_speedup": tuned.measured_speedup,
        "suggestion": tuned.suggestion,
    }


def _observed(tuned: Tuned, way: Way) -> Observed:
    return next(one for one in tuned.observed if one.is_of(way))


def _row(way: Way, observed: Observed) -> dict[str, Any]:
    return {
        "build": way.build.manifest.id,
        "divergence": observed.divergence,
        "noisy": observed.curves[way.num_threads].is_noisy,
        "num_threads": way.num_threads,
        "drafter": way.drafter,
        "num_draft_tokens": way.num_draft_tokens,
        "tree": way.tree.tree.to_json() if way.tree else None,
        "gains": list(way.tree.gains) if way.tree else [],
        "expected_tokens": way.tree.expected_tokens if way.tree else None,
        "milliseconds": way.seconds * 1e3,
        "plain_milliseconds": way.plain_seconds * 1e3,
        "predicted_speedup": way.plain_seconds / way.seconds,
    }


def _show(tuned: Tuned, bundle: Path) -> None:
    table = Table("build", "lost (nats)", "threads", "plain", "fixed drafts", "a token", "speedup", "")
    for way in tuned.ways:
        drafts = f", {tuned.plan.drafter.describe(way.drafter)}" if way.drafter else ""
        divergence = _observed(tuned, way).divergence
        is_chosen = _observed(tuned, way).is_of(tuned.chosen) and way.num_threads == tuned.chosen.num_threads
        table.add_row(
            way.build.manifest.id + drafts,
            "-" if divergence is None else f"{divergence:.4f}",
            str(way.num_threads),
            f"{way.plain_seconds * 1e3:.2f} ms",
            str(way.num_draft_tokens),
            f"{way.seconds * 1e3:.2f} ms",
            f"{way.plain_seconds / way.seconds:.2f}x",
            "chosen" if is_chosen else "",
        )
    results.print(table)
    chosen = tuned.chosen
    kept = ", ".join(f"{number}: {share:.0%}" for number, share in enumerate(tuned.tuning.acceptance, 1))
    lines = [f"Rounds with drafts that kept so many or more: {kept or 'none'}"]
    pays = chosen.seconds < _PAYS * chosen.plain_seconds
    if pays:
        lines.append(
            f"Up to {chosen.num_draft_tokens} draft tokens a round, as many as pay: {chosen.seconds * 1e3:.2f} ms a "
            f"token, {chosen.plain_seconds / chosen.seconds:.2f} times as fast as without, by the rounds it takes"
        )
    elif tuned.tuning.acceptance:
        lines.append("Drafts do not pay on these prompts: rounds are plain but for a few that try.")
    lines.append(f"Tokens of a round on these prompts: {tuned.tokens_per_round:.2f}")
    if _observed(tuned, chosen).curves[chosen.num_threads].is_noisy:
        lines.append("The machine was busy while rounds were measured: tune again on a quiet one.")
    if tuned.tuning.overlap:
        lines.append("The next drafts are made while the target verifies.")
    lines.append(f"Measured: {tuned.measured_speedup:.2f} times as fast as plain decoding of the same build")
    lines.append(f"ptgc run {bundle} --build {chosen.build.manifest.id}")
    for line in lines:
        results.print(line, markup=False, soft_wrap=True)
    if chosen.tree is not None:
        show_tree(chosen.build.manifest.id, chosen.tree.tree, chosen.tree.gains)
    if tuned.suggestion is not None:
        notes.print(
            f"A build with {tuned.suggestion} would be faster: ptgc build {bundle} --precision {tuned.suggestion}; "
            "then tune again.",
            markup=False,
            soft_wrap=True,
        )
