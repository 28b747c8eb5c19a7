"""`ptgc demo`: export, build and run one model, plain and speculative side by side."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.columns import Columns
from rich.panel import Panel
from rich.table import Table

from ptgc.cli.console import command_errors, compiler_missing, need_torch, notes, progress, results
from ptgc.errors import BundleError
from ptgc.spec.output import check_bundle_output

if TYPE_CHECKING:
    from ptgc.runtime import GenerationResult, Generator

_FILE = """public class Thermostat {
    private double target;
    private double current;
    private boolean heating;

    public Thermostat(double target) {
        this.target = target;
        this.current = 20.0;
        this.heating = false;
    }

    public double getTarget() {
        return target;
    }

    public void setTarget(double target) {
        this.target = target;
        update();
    }

    public void measure(double current) {
        this.current = current;
        update();
    }

    private void update() {
        heating = current < target;
    }

    public boolean isHeating() {
        return heating;
    }
}
"""
_TASK = (
    f"Here is the file Thermostat.java:\n\n```java\n{_FILE}```\n\n"
    "Change the first temperature from 20.0 to 18.0. Print the whole file again and leave everything else as it is."
)
_REPEATS = 3


def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Local directory, GGUF file, or hub id of a chat model."),
    ] = None,
    directory: Annotated[Path, typer.Option(help="Directory of the bundle; it is kept and reused.")] = Path(
        "bundles/demo"
    ),
    precision: Annotated[
        str, typer.Option(help="Precisions of the builds to compare, comma-separated.")
    ] = "float32,int8",
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to write.")] = 160,
) -> None:
    """Show what speculation gains on this machine: the same text, written plainly and with drafts."""
    with command_errors():
        _export(model, directory)
        rows = []
        for name in precision.split(","):
            build_id = _build(directory, name.strip())
            rows.append((name.strip(), *_race(directory, build_id, max_new_tokens)))
        _show(rows)


def _export(model: str | None, directory: Path) -> None:
    if (directory / "manifest.json").exists():
        notes.print(f"Using the bundle in {directory}", markup=False)
        return
    if model is None:
        raise BundleError(
            "The demo needs a model: a directory, a GGUF file or a hub id.",
            "For example: ptgc demo HuggingFaceTB/SmolLM2-135M-Instruct",
        )
    check_bundle_output(directory, force=False, sources=(Path(model),))
    need_torch("The demo's export")
    from ptgc.exporters import export_checkpoint

    with progress() as step:
        export_checkpoint(model, directory, progress=step)


def _build(directory: Path, precision: str) -> str:
    from ptgc.spec.bundle import open_bundle

    bundle = open_bundle(directory)
    wanted = {"target": precision}
    made = [b for b in bundle.builds() if b.manifest.precision == wanted and b.manifest.bundle_sha256 == bundle.sha256]
    if made:
        return made[-1].manifest.id
    try:
        from ptgc.compiler.build.build import BuildOptions, build
    except ImportError as error:
        raise compiler_missing("The demo's build", error) from error
    with progress() as step:
        return build(directory, BuildOptions(precision=precision, replace=True), step).manifest.id


def _race(directory: Path, build_id: str, max_new_tokens: int) -> tuple[list[GenerationResult], list[GenerationResult]]:
    """Run plain and speculative decoding in turns, so that both see the machine in the same state."""
    from ptgc.runtime import Generator

    plain, drafted = [], []
    with progress() as step, Generator(directory, build=build_id) as generator:
        prompt = _prompt(generator)
        for number in range(_REPEATS):
            step(f"{build_id}: writing, {number + 1} of {_REPEATS}")
            plain.append(generator.generate(prompt, max_new_tokens=max_new_tokens, plain=True))
            drafted.append(generator.generate(prompt, max_new_tokens=max_new_tokens))
    return plain, drafted


def _prompt(generator: Generator) -> list[int]:
    """The task as a chat message, or as the beginning of a text if the model has no chat template."""
    from ptgc.errors import UsageError

    if generator.codec is None:
        return list(range(16)) * 4
    try:
        return generator.codec.encode_messages([{"role": "user", "content": _TASK}])
    except UsageError:
        return generator.codec.encode(f"{_FILE}\n\n{_FILE[:60]}")


def _speed(runs: list[GenerationResult]) -> float:
    return median(run.statistics.tokens_per_second for run in runs)


def _show(rows: list[tuple[str, list[GenerationResult], list[GenerationResult]]]) -> None:
    _, plain, drafted = rows[-1]
    results.print(
        Columns(
            [
                Panel(plain[0].text, title=f"plain, {_speed(plain):.0f} tokens/s", width=58),
                Panel(drafted[0].text, title=f"{drafted[0].strategy}, {_speed(drafted):.0f} tokens/s", width=58),
            ]
        )
    )
    table = Table("build", "plain, tokens/s", "speculative, tokens/s", "speedup", "tokens a round", "same text")
    for name, plain, drafted in rows:
        same = all(one.token_ids == other.token_ids for one, other in zip(plain, drafted, strict=True))
        table.add_row(
            name,
            f"{_speed(plain):.1f}",
            f"{_speed(drafted):.1f}",
            f"{_speed(drafted) / _speed(plain):.2f}x",
            f"{drafted[0].statistics.mean_accept_length:.2f}",
            "yes" if same else "no",
        )
    results.print(table)
