"""`ptgc inspect`: shows what a bundle holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ptgc.cli.console import command_errors, megabytes, print_json, results
from ptgc.cli.options import AsJson, BundlePath
from ptgc.cli.token_tree import show_tree
from ptgc.compiler.tuning.cost_picture import RATES, MeasuredBuild, check_picture, draw_costs
from ptgc.errors import BundleError, UsageError
from ptgc.spec.bundle import RUNNABLE, Build, Bundle, open_bundle
from ptgc.spec.engine import Engine
from ptgc.spec.generation import GenerationDefaults

if TYPE_CHECKING:
    from ptgc.runtime.tuning import Tuning

_SHOWN_TOKENS = 8


def _print_cmake_directory(wanted: bool) -> None:
    if not wanted:
        return
    with command_errors():
        from ptgc.runtime.libraries import compiled_package

        package = compiled_package()
        folder = package / "lib" / "cmake" / "ptgc"
        if not (folder / "ptgcConfig.cmake").is_file():
            raise UsageError(f"There is no C library in {package}.", "Install ptgc again.")
    typer.echo(folder)
    raise typer.Exit


CmakeDirectory = Annotated[
    bool,
    typer.Option(
        "--cmake-dir",
        callback=_print_cmake_directory,
        is_eager=True,
        help="Print the folder for CMake's ptgc_DIR, and nothing else; needs no BUNDLE.",
    ),
]


def command(
    bundle: BundlePath,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw measured rounds and predicted speedups: .png, .svg or .pdf."),
    ] = None,
    as_json: AsJson = False,
    cmake_dir: CmakeDirectory = False,  # noqa: ARG001  # handled by its callback
) -> None:
    """Show a bundle's strategy, models, builds, measured costs and the speedups that they predict."""
    with command_errors(as_json):
        if picture is not None:
            check_picture(picture)
        opened = open_bundle(bundle)
        builds, refused = opened.read_builds()
        if picture is not None:
            _draw(opened, builds, picture)
        if as_json:
            print_json(_document(opened, builds) | {"damaged_builds": _reasons(refused)})
            return
        _show_bundle(opened)
        for build in builds:
            _show_build(opened, build)
        for name, reason in _reasons(refused).items():
            results.print(f"build {name} is damaged: {reason}", markup=False, soft_wrap=True)


def _reasons(refused: Mapping[str, BundleError]) -> dict[str, str]:
    """Why builds cannot be read, by folder name."""
    return {name: error.message for name, error in refused.items()}


@dataclass(frozen=True)
class _Found:
    """What was measured of a build on this device."""

    tuning: Tuning | None
    """What was tuned here."""
    refused: list[str]
    """Why settings that were found are not used."""
    measured: MeasuredBuild | None
    """Its rounds, with the number of threads that it runs with here."""


def _find(bundle: Bundle, build: Build) -> _Found:
    from ptgc.runtime.tuning import read_tuning

    refused: list[str] = []
    tuning = read_tuning(build, bundle.manifest.plan, refused)
    return _Found(tuning, refused, _measured(bundle, build, tuning))


def _measured(bundle: Bundle, build: Build, tuning: Tuning | None) -> MeasuredBuild | None:
    from ptgc.runtime.costs import read_costs
    from ptgc.runtime.generator import default_num_threads

    role = tuning.chosen_drafter(bundle.manifest.plan) if tuning else None
    curve = read_costs(build, tuning.num_threads if tuning else default_num_threads(), role)
    if curve is None or not curve.rounds:
        return None
    drafter = bundle.manifest.plan.drafter
    width = build.manifest.shapes.roles["target"].verify_width
    measured = MeasuredBuild(
        build.manifest.id, curve, width, drafter.num_draft_tokens, rows_at_once=drafter.rows_at_once
    )
    if tuning is None:
        return measured
    return replace(measured, acceptance=tuning.acceptance, tree=tuning.tree, gains=tuning.gains)


def _draw(bundle: Bundle, builds: list[Build], path: Path) -> None:
    found = [_find(bundle, build).measured for build in builds]
    measured = [one for one in found if one is not None]
    if not measured:
        raise UsageError(
            f"No build of {bundle.path} was measured on this device; there is nothing to draw.",
            f"ptgc build {bundle.path} --stage compile --id ID",
        )
    draw_costs(measured, path)


def _document(bundle: Bundle, builds: list[Build]) -> dict[str, Any]:
    described = []
    for build in builds:
        document = build.manifest.to_json()
        document["current"] = build.manifest.bundle_sha256 == bundle.sha256
        found = _find(bundle, build)
        document["round_seconds"] = found.measured.curve.medians() if found.measured else {}
        document["rounds_are_noisy"] = found.measured.curve.is_noisy if found.measured else None
        document["tuning"] = found.tuning.to_json() if found.tuning else None
        described.append(document)
    return {"manifest": bundle.manifest.to_json(), "builds": described}


def _show_bundle(bundle: Bundle) -> None:
    manifest = bundle.manifest
    table = Table(title=str(bundle.path), show_header=False, title_justify="left")
    drafter = manifest.plan.drafter
    draft = f", up to {drafter.num_draft_tokens} draft tokens" if drafter.num_draft_tokens else ""
    draft += ", with overlap" if drafter.parts[-1].overlap else ""
    table.add_row("strategy", f"{manifest.plan.strategy} ({manifest.plan.guarantee.value}{draft})")
    if manifest.plan.canvas is not None:
        table.add_row("canvas", manifest.plan.canvas.describe())
    table.add_row("model", f"{manifest.model.family}, vocabulary {manifest.model.vocab_size:,}")
    table.add_row("context", f"{manifest.model.context_length:,} tokens")
    for name, role in manifest.roles.items():
        parts = f" ({drafter.describe(name)} of the target)" if name in drafter.alternatives else ""
        state = sum(layer.bytes_per_token for layer in role.states)
        table.add_row(f"role {name}", f"{len(role.states)} layers{parts}, {state:,} bytes of cache for each token")
    table.add_row("size", megabytes(sum(entry.size for entry in manifest.files)))
    table.add_row("defaults", _defaults(manifest.generation))
    table.add_row("tokenizer", "yes" if manifest.tokenizer else "no: token ids only")
    if manifest.packed is not None:
        table.add_row("packed", f"{len(manifest.packed.dropped)} files left out; it runs, and is not built again")
    table.add_row("source", str(manifest.provenance.get("source", "a module")))
    results.print(table)


def _defaults(generation: GenerationDefaults) -> str:
    """The generation defaults, in words."""
    parts = ["greedy"]
    if generation.repetition_penalty != 1:
        parts.append(f"repetition penalty {generation.repetition_penalty:g}")
    ids = generation.suppressed_token_ids
    if ids:
        shown = ", ".join(map(str, ids[:_SHOWN_TOKENS])) + (", ..." if len(ids) > _SHOWN_TOKENS else "")
        parts.append(f"{len(ids)} suppressed tokens ({shown})")
    return ", ".join(parts)


def _show_build(bundle: Bundle, build: Build) -> None:
    manifest = build.manifest
    current = manifest.bundle_sha256 == bundle.sha256
    title = f"build {manifest.id}" + ("" if current else " (of another export: build it again)")
    table = Table(title=title, show_header=False, title_justify="left")
    precision = ", ".join(f"{role} {name}" for role, name in manifest.precision.items())
    table.add_row("for", f"{manifest.backend}, {manifest.device}, {precision}")
    table.add_row("weights", megabytes(manifest.weight_bytes))
    table.add_row("length", f"{manifest.shapes.max_length:,} tokens, batch {manifest.shapes.batch}")
    for role in manifest.roles:
        if operators := manifest.provenance.get(f"operators.{role}"):
            table.add_row(f"operators of {role}", operators + _instruction_set(operators))
    for engine in manifest.engines:
        table.add_row(f"engine {engine.role}", _engine(engine, manifest.compute_capabilities))
    found = _find(bundle, build)
    if manifest.backend not in RUNNABLE:
        state = "compiled ahead of time" if manifest.engines else "prepared, not compiled"
        table.add_row("rounds here", f"not run: {state}")
    elif found.measured is None and "target" in manifest.shapes.roles:
        table.add_row("rounds here", f"not measured: ptgc build {bundle.path} --stage compile --id {manifest.id}")
    results.print(table)
    if found.measured is not None:
        _show_rounds(found.measured)
    for reason in found.refused:
        text = f"tuning of {manifest.id} here is not used: {reason}; tune again: ptgc tune {bundle.path}"
        results.print(text, markup=False, soft_wrap=True)
    if found.tuning is not None and found.tuning.tree is not None:
        show_tree(manifest.id, found.tuning.tree, found.tuning.gains)


def _instruction_set(operators: str) -> str:
    """What ptgc's own operators use on this machine, where a build has some."""
    from ptgc.runtime import _core

    return f" ({_core.kernels()} here)" if "BlockProduct" in operators or "CachedAttention" in operators else ""


def _show_rounds(build: MeasuredBuild) -> None:
    """Print what rounds cost, and the speedups that drafts would give."""
    most = build.num_draft_tokens
    threads = build.curve.num_threads
    title = f"rounds of {build.name} here, {threads} threads"
    if build.curve.is_noisy:
        title += f" (noisy: measured on a busy machine, rounds differ by {build.curve.noise:.0%}; by the fastest runs)"
    table = Table(title=title, title_justify="left")
    for heading in ("rows", "ms", "spread", "of one row"):
        table.add_column(heading, justify="right")
    speedups = {f"{rate:.0%} accepted": build.speedups(rate) for rate in RATES if most}
    if tuned := build.tuned_speedups:
        speedups["as tuned"] = tuned
    for heading in speedups:
        table.add_column(heading, justify="right")
    base = build.curve.medians()[min(build.curve.rounds)]
    for width, seconds in build.curve.medians().items():
        cost = build.curve.rounds[width]
        cells = [f"{seconds * 1e3:.1f}", f"{cost.minimum * 1e3:.1f} - {cost.maximum * 1e3:.1f}"]
        if width > build.verify_width:
            table.add_row(str(width), *cells, f"{width / seconds:,.0f} tokens/s of a prompt")
        else:
            gains = [f"{found[min(width, len(found)) - 1]:.2f}x" for found in speedups.values()]
            table.add_row(str(width), *cells, f"{seconds / base:.2f}x", *gains)
    results.print(table)


def _engine(engine: Engine, capabilities: tuple[str, ...]) -> str:
    """An engine's size, what it was compiled for, and which attention the compiler runs natively."""
    native = engine.layers.get("KV_CACHE_UPDATE", 0), engine.layers.get("ATTENTION_OUTPUT", 0)
    reasons = sorted(set(engine.not_native.values()))
    lines = [
        f"{megabytes(engine.engine_bytes)}, {engine.weight_ratio:.2f} times its weights; for compute capability "
        + (", ".join(capabilities) or "8.0 and newer"),
        f"{native[0]} cache updates and {native[1]} attention layers in the network",
        *(f"{sum(one == reason for one in engine.not_native.values())} not native: {reason}" for reason in reasons),
    ]
    return "\n".join(lines)
