"""`ptgc demo`: export, build and run one model, plain and with drafts, side by side."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.columns import Columns
from rich.panel import Panel
from rich.table import Table

from ptgc.cli.console import command_errors, compiler_missing, need_torch, notes, progress, results
from ptgc.errors import BundleError, UsageError
from ptgc.spec.options import checkpoint_options
from ptgc.spec.output import check_bundle_output
from ptgc.spec.strategies import find_strategy

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
_CHAT = "What makes bread dough rise, and how can I tell when it is ready to bake?"
_PROMPTS = {"a chat message": _CHAT, "an edit": _TASK}
_REPEATS = 3
_PLAIN = "plain"


@dataclass(frozen=True)
class _Contender:
    """A bundle that drafts."""

    name: str
    """The name of its strategy."""
    folder: Path
    """Its bundle."""
    options: dict[str, Any]
    """Of its export."""


@dataclass(frozen=True)
class _Heat:
    """All texts that one precision wrote for one prompt."""

    precision: str
    """Of the builds."""
    prompt: str
    """What the prompt is."""
    runs: dict[str, list[GenerationResult]]
    """By strategy, plain decoding first."""


def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Local directory, GGUF file, or hub id of a chat model."),
    ] = None,
    directory: Annotated[Path, typer.Option(help="Directory of the bundles; they are kept and reused.")] = Path(
        "bundles/demo"
    ),
    drafter: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="A drafter that was trained for the model, to show too.")
    ] = None,
    strategy: Annotated[str, typer.Option(help="Strategy of this drafter.")] = "eagle3",
    denoiser: Annotated[
        Path | None,
        typer.Option(metavar="CHECKPOINT", help="A diffusion model of stories, to show how it fills a canvas too."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Precisions of the builds to compare, comma-separated.")
    ] = "float32,int8",
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to write.")] = 160,
) -> None:
    """Show what drafts gain on this machine: the same texts, written plainly and with drafts."""
    with command_errors():
        contenders = [_Contender("ngram", directory / "ngram", {})]
        if drafter is not None:
            contenders.append(_Contender(strategy, directory / strategy, _drafting(strategy, drafter)))
        if denoiser is not None:
            canvas = _Contender("masked-diffusion", directory / "masked-diffusion", {})
            _export(str(denoiser), canvas)
        for one in contenders:
            _export(model, one)
        heats = []
        precisions = [part.strip() for part in precision.split(",")]
        for name in precisions:
            builds = [_build(one.folder, name) for one in contenders]
            heats += _race(contenders, builds, name, max_new_tokens)
        _show(heats)
        if denoiser is not None:
            from ptgc.cli.demo_canvas import fill_canvas

            fill_canvas(canvas.folder, _build(canvas.folder, precisions[-1]), max_new_tokens)


def _drafting(strategy: str, drafter: Path) -> dict[str, str]:
    """The option of the export that names the checkpoint that drafts."""
    named = checkpoint_options(find_strategy(strategy).options)
    if not named:
        raise UsageError(f"Strategy '{strategy}' drafts without a checkpoint.", "Name another with --strategy.")
    return {named[0]: str(drafter)}


def _export(model: str | None, contender: _Contender) -> None:
    folder = contender.folder
    if (folder / "manifest.json").exists():
        notes.print(f"Using the bundle in {folder}", markup=False)
        return
    if model is None:
        raise BundleError(
            "The demo needs a model: a directory, a GGUF file or a hub id.",
            "For example: ptgc demo HuggingFaceTB/SmolLM2-135M-Instruct",
        )
    check_bundle_output(folder, force=False, sources=(Path(model),))
    need_torch("The demo's export")
    from ptgc.exporters import export_checkpoint

    with progress() as step:
        export_checkpoint(model, folder, contender.options, strategy=contender.name, progress=step)


def _build(folder: Path, precision: str) -> str:
    from ptgc.spec.bundle import open_bundle

    bundle = open_bundle(folder)
    made = [
        build.manifest.id
        for build in bundle.builds()
        if set(build.manifest.precision.values()) == {precision} and build.manifest.bundle_sha256 == bundle.sha256
    ]
    if made:
        return made[-1]
    try:
        from ptgc.compiler.build.build import BuildOptions, build
    except ImportError as error:
        raise compiler_missing("The demo's build", error) from error
    with progress() as step:
        return build(folder, BuildOptions(precision=precision, replace=True), step).manifest.id


def _race(contenders: list[_Contender], builds: list[str], precision: str, max_new_tokens: int) -> list[_Heat]:
    """Let all write in turns, so that they see the machine in the same state."""
    from ptgc.runtime import Generator

    heats = []
    with ExitStack() as stack:
        step = stack.enter_context(progress())
        generators = {
            one.name: stack.enter_context(Generator(one.folder, build=build))
            for one, build in zip(contenders, builds, strict=True)
        }
        first = next(iter(generators.values()))
        for name, message in _PROMPTS.items():
            prompt = _tokens(first, message)
            heat = _Heat(precision, name, {_PLAIN: [], **{strategy: [] for strategy in generators}})
            for number in range(_REPEATS):
                step(f"{precision}: answering {name}, {number + 1} of {_REPEATS}")
                heat.runs[_PLAIN].append(first.generate(prompt, max_new_tokens=max_new_tokens, plain=True))
                for strategy, generator in generators.items():
                    heat.runs[strategy].append(generator.generate(prompt, max_new_tokens=max_new_tokens))
            heats.append(heat)
    return heats


def _tokens(generator: Generator, message: str) -> list[int]:
    """A chat message, or the beginning of a text if the model has no chat template."""
    if generator.codec is None:
        return list(range(16)) * 4
    try:
        return generator.codec.encode_messages([{"role": "user", "content": message}])
    except UsageError:
        return generator.codec.encode(f"{message}\n\n{message[:60]}")


def _speed(runs: list[GenerationResult]) -> float:
    return median(run.statistics.tokens_per_second for run in runs)


def _show(heats: list[_Heat]) -> None:
    for prompt in _PROMPTS:
        rows = [heat for heat in heats if heat.prompt == prompt]
        runs = rows[-1].runs
        fastest = max(runs, key=lambda strategy: _speed(runs[strategy]))
        shown = dict.fromkeys([_PLAIN, fastest])
        results.print(
            Columns(
                [
                    Panel(
                        runs[strategy][0].text, title=f"{prompt}, {strategy}: {_speed(runs[strategy]):.0f}/s", width=58
                    )
                    for strategy in shown
                ]
            )
        )
        results.print(_table(rows))


def _table(rows: list[_Heat]) -> Table:
    """Tokens a second of one prompt, and by how much each strategy is faster than plain decoding."""
    drafting = [strategy for strategy in rows[0].runs if strategy != _PLAIN]
    table = Table("build", "plain, tokens/s", title=rows[0].prompt, title_justify="left")
    for strategy in drafting:
        table.add_column(strategy)
        table.add_column("tokens a round")
    table.add_column("same text")
    for heat in rows:
        plain = heat.runs[_PLAIN]
        cells = [heat.precision, f"{_speed(plain):.1f}"]
        for strategy in drafting:
            runs = heat.runs[strategy]
            cells.append(f"{_speed(runs):.1f} ({_speed(runs) / _speed(plain):.2f}x)")
            cells.append(f"{runs[0].statistics.mean_accept_length:.2f}")
        same = all(run.token_ids == plain[0].token_ids for runs in heat.runs.values() for run in runs)
        table.add_row(*cells, "yes" if same else "no")
    return table
