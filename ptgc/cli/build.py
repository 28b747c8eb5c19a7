"""`ptgc build`: makes a build of a bundle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

import ptgc
from ptgc.cli.console import command_errors, compiler_missing, megabytes, print_json, progress, results
from ptgc.cli.options import AsJson, BundlePath, NumThreads
from ptgc.compiler.build.compiler_options import CompilerOptions, HardwareCompatibility
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.precision.precision import MAX_DIVERGENCE
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.errors import UsageError
from ptgc.spec.bundle import Build
from ptgc.spec.lowering import Lowering

_PANEL = "Compiling with TensorRT"


def command(
    bundle: BundlePath,
    stage: Annotated[Stage, typer.Option(help="prepare needs no device; compile makes engines and measures.")] = (
        Stage.ALL
    ),
    backend: Annotated[
        str, typer.Option(help="Engine library: onnxruntime, tensorrt-rtx or tensorrt.")
    ] = "onnxruntime",
    device: Annotated[
        str | None, typer.Option(help="Kind of device: cpu or cuda; by default the backend's first.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Weights: float32, float16, bfloat16, int8, int4; or ROLE=PRECISION,..., also head= or embedding=. "
            "auto: on a CPU the fastest within --max-divergence, float16 with TensorRT."
        ),
    ] = "auto",
    max_divergence: Annotated[
        float, typer.Option(metavar="NATS", help="The most that auto may lose: Kullback-Leibler divergence per token.")
    ] = MAX_DIVERGENCE,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text or prompts (.jsonl) that auto compares precisions on, 8192 tokens spread over it; by default "
            "the bundle's reference texts.",
        ),
    ] = None,
    lowering: Annotated[
        Lowering,
        typer.Option(
            help="Operators of the graphs: vendor-products takes ONNX Runtime's MatMulNBits on a CPU, not ptgc's own; "
            "portable (opset 20 at most) is for TensorRT before 10.15."
        ),
    ] = Lowering.NATIVE,
    max_length: Annotated[
        int | None,
        typer.Option(help="Most tokens of one sequence (prompt and text); by default 1024, or the context if shorter."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences that are decoded together.")] = 1,
    compute_capability: Annotated[
        str | None,
        typer.Option(metavar="8.6,8.9", help="GPU generations to compile for ahead of time; by default 8.0 and newer."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text of the kind that the model will write, or conversations (.jsonl), 8192 tokens spread over "
            "it, to quantise with.",
        ),
    ] = None,
    quantizer: Annotated[
        Quantizer,
        typer.Option(
            help="How weights are rounded: rtn (to the nearest) and hqq need no text; awq, gptq and awq-gptq need "
            "--calibration. auto: rtn without a text; with one, awq-gptq at int8 and int4, gptq elsewhere."
        ),
    ] = Quantizer.AUTO,
    builder_optimization_level: Annotated[
        int | None,
        typer.Option(help="How hard the compiler searches for faster kernels, 0 to 5.", rich_help_panel=_PANEL),
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(metavar="MIB", help="Most scratch memory of a layer.", rich_help_panel=_PANEL)
    ] = None,
    hardware_compatibility_level: Annotated[
        HardwareCompatibility, typer.Option(help="Which other GPUs engines may run on.", rich_help_panel=_PANEL)
    ] = HardwareCompatibility.NONE,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="Make engines that later versions can run.", rich_help_panel=_PANEL),
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Make engines whose weights can be replaced.", rich_help_panel=_PANEL)
    ] = False,
    strip_weights: Annotated[
        bool,
        typer.Option("--strip-weights", help="Make engines without weights, to be refitted.", rich_help_panel=_PANEL),
    ] = False,
    timing_cache_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of TensorRT's kernel timings; by default in the user's cache.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=FILE",
            help="Take an engine that trtexec made of the prepared graph; may be repeated.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    build_id: Annotated[str | None, typer.Option("--id", help="Name of the build.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing build of that name.")] = False,
    num_threads: NumThreads = None,
    as_json: AsJson = False,
) -> None:
    """Quantise and lower a bundle for a backend, then compile its engines or measure its rounds on this device."""
    with command_errors(as_json):
        try:
            from ptgc.compiler.build.build import BuildOptions, build
        except ImportError as error:
            raise compiler_missing("Building", error) from error
        options = BuildOptions(
            backend=backend,
            device=device,
            precision=precision,
            max_divergence=max_divergence,
            text=text,
            lowering=lowering,
            max_length=max_length,
            batch_size=batch_size,
            build_id=build_id,
            replace=replace,
            stage=stage,
            num_threads=num_threads,
            compiler=CompilerOptions(
                compute_capabilities=_capabilities(compute_capability),
                optimization_level=builder_optimization_level,
                workspace=workspace,
                hardware_compatibility=hardware_compatibility_level,
                version_compatible=version_compatible,
                refit=refit,
                strip_weights=strip_weights,
                timing_cache=timing_cache_file,
                engines=_engines(engine or []),
            ),
            calibration=calibration,
            quantizer=quantizer,
        )
        with progress() as step:
            made = build(bundle, options, step)
        _show(made, as_json=as_json)


def _capabilities(text: str | None) -> tuple[str, ...]:
    """Parse `8.6,8.9`; ascending, without duplicates."""
    if text is None:
        return ()
    parts = {part.strip() for part in text.split(",")}
    if not all(re.fullmatch(r"[1-9]\d?\.\d", part) for part in parts):
        raise UsageError(
            f"--compute-capability is '{text}'; it must be numbers such as 8.6 with commas between.",
            "For example: --compute-capability 8.6,8.9,12.0",
        )
    return tuple(sorted(parts, key=lambda part: [int(number) for number in part.split(".")]))


def _engines(entries: list[str]) -> dict[str, Path]:
    """Parse entries such as `target=target.engine`, one per role."""
    found: dict[str, Path] = {}
    for entry in entries:
        role, _, file = entry.partition("=")
        if not role or not file or role in found:
            raise UsageError(f"--engine is '{entry}'; it must be ROLE=FILE, once for each role.")
        found[role] = Path(file)
    return found


def _show(made: Build, *, as_json: bool) -> None:
    """Print where the build is and how large."""
    manifest = made.manifest
    weights = manifest.weight_bytes
    engines = sum(engine.engine_bytes for engine in manifest.engines)
    reasons = {key: text for key, text in manifest.provenance.items() if key.startswith("precision.")}
    if as_json:
        document: dict[str, Any] = {"build": manifest.id, "path": str(made.path), "weight_bytes": weights}
        document |= {"precision": manifest.precision} | ({"reasons": reasons} if reasons else {})
        print_json(document | ({"engine_bytes": engines} if manifest.engines else {}))
        return
    results.print(f"{made.path}: {megabytes(weights)} of weights", soft_wrap=True, markup=False)
    for key, reason in reasons.items():
        results.print(f"{key.removeprefix('precision.')}: {reason}", soft_wrap=True, markup=False)
    if manifest.engines:
        generations = ", ".join(manifest.compute_capabilities) or "the compiler's default generations"
        results.print(
            f"{megabytes(engines)} of engines, compiled for {generations}; not run: ptgc {ptgc.__version__} runs "
            "onnxruntime builds only.",
            soft_wrap=True,
            markup=False,
        )
