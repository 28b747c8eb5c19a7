"""`ptgc inspect`: what a bundle holds."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ptgc.cli.console import command_errors, megabytes, print_json, results
from ptgc.cli.options import AsJson, BundlePath
from ptgc.errors import UsageError
from ptgc.spec.bundle import RUNNABLE, Build, Bundle, open_bundle
from ptgc.spec.engine import Engine


def _print_cmake_directory(wanted: bool) -> None:
    if not wanted:
        return
    with command_errors():
        module = find_spec("ptgc.runtime._core")  # in an editable install, only it tells where compiled parts are
        package = Path(module.origin).parents[1] if module is not None and module.origin else Path()
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


def command(bundle: BundlePath, as_json: AsJson = False, cmake_dir: CmakeDirectory = False) -> None:  # noqa: ARG001  # eager
    """Show a bundle's strategy, models, builds and measured costs."""
    with command_errors(as_json):
        opened = open_bundle(bundle)
        builds = opened.builds()
        if as_json:
            print_json(_document(opened, builds))
            return
        _show_bundle(opened)
        for build in builds:
            _show_build(opened, build)


def _costs(build: Build) -> dict[int, float]:
    """Measured seconds by width on this device, with the threads of this machine."""
    from ptgc.runtime.costs import read_costs
    from ptgc.runtime.generator import default_num_threads

    curve = read_costs(build, default_num_threads())
    return curve.medians() if curve else {}


def _document(bundle: Bundle, builds: list[Build]) -> dict[str, Any]:
    described = []
    for build in builds:
        document = build.manifest.to_json()
        document["current"] = build.manifest.bundle_sha256 == bundle.sha256
        document["round_seconds"] = _costs(build)
        described.append(document)
    return {"manifest": bundle.manifest.to_json(), "builds": described}


def _show_bundle(bundle: Bundle) -> None:
    manifest = bundle.manifest
    table = Table(title=str(bundle.path), show_header=False, title_justify="left")
    drafter = manifest.plan.drafter
    draft = f", up to {drafter.num_draft_tokens} draft tokens" if drafter.num_draft_tokens else ""
    kept = "lossless" if manifest.plan.strategy.lossless else "not lossless"
    table.add_row("strategy", f"{manifest.plan.strategy.value} ({kept}{draft})")
    table.add_row("model", f"{manifest.model.family}, vocabulary {manifest.model.vocab_size:,}")
    table.add_row("context", f"{manifest.model.context_length:,} tokens")
    for name, role in manifest.roles.items():
        state = sum(layer.bytes_per_token for layer in role.states)
        table.add_row(f"role {name}", f"{len(role.states)} layers, {state:,} bytes of cache for each token")
    table.add_row("size", megabytes(sum(entry.size for entry in manifest.files)))
    table.add_row("tokenizer", "yes" if manifest.tokenizer else "no: token ids only")
    if manifest.packed is not None:
        table.add_row("packed", f"{len(manifest.packed.dropped)} files left out; it runs, and is not built again")
    table.add_row("source", str(manifest.provenance.get("source", "a module")))
    results.print(table)


def _show_build(bundle: Bundle, build: Build) -> None:
    manifest = build.manifest
    current = manifest.bundle_sha256 == bundle.sha256
    title = f"build {manifest.id}" + ("" if current else " (of another export: build it again)")
    table = Table(title=title, show_header=False, title_justify="left")
    precision = ", ".join(f"{role} {name}" for role, name in manifest.precision.items())
    table.add_row("for", f"{manifest.backend}, {manifest.device}, {precision}")
    table.add_row("weights", megabytes(manifest.weight_bytes))
    table.add_row("length", f"{manifest.shapes.max_length:,} tokens, batch {manifest.shapes.batch}")
    for engine in manifest.engines:
        table.add_row(f"engine {engine.role}", _engine(engine, manifest.compute_capabilities))
    costs = _costs(build)
    if manifest.backend not in RUNNABLE:
        state = "compiled ahead of time" if manifest.engines else "prepared, not compiled"
        table.add_row("rounds here", f"not run: {state}")
    elif costs:
        base = costs[min(costs)]
        verify = {w: s for w, s in costs.items() if w <= manifest.shapes.verify_width}
        cells = "  ".join(f"{w}: {s * 1e3:.1f} ms ({s / base:.2f}x)" for w, s in sorted(verify.items()))
        table.add_row("rounds here", cells)
    else:
        table.add_row("rounds here", f"not measured: ptgc build {bundle.path} --stage compile --id {manifest.id}")
    results.print(table)


def _engine(engine: Engine, capabilities: tuple[str, ...]) -> str:
    """Its size, what it was compiled for, and how much of attention is the compiler's own."""
    native = engine.layers.get("KV_CACHE_UPDATE", 0), engine.layers.get("ATTENTION_OUTPUT", 0)
    reasons = sorted(set(engine.not_native.values()))
    lines = [
        f"{megabytes(engine.engine_bytes)}, {engine.weight_ratio:.2f} times its weights; for compute capability "
        + (", ".join(capabilities) or "8.0 and newer"),
        f"{native[0]} cache updates and {native[1]} attention layers in the network",
        *(f"{sum(one == reason for one in engine.not_native.values())} not native: {reason}" for reason in reasons),
    ]
    return "\n".join(lines)
