"""`ptgc build`: engines from a bundle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

import ptgc
from ptgc.cli.console import command_errors, megabytes, print_json, progress, results
from ptgc.cli.options import AsJson, BundlePath, NumThreads
from ptgc.compiler.precision import MAX_DIVERGENCE
from ptgc.compiler.stage import Stage
from ptgc.errors import BackendError, UsageError
from ptgc.spec.bundle import Build


def command(
    bundle: BundlePath,
    stage: Annotated[Stage, typer.Option(help="prepare needs no device; compile makes engines and measures.")] = (
        Stage.ALL
    ),
    backend: Annotated[
        str, typer.Option(help="Engine library: onnxruntime, tensorrt-rtx or tensorrt.")
    ] = "onnxruntime",
    device: Annotated[str | None, typer.Option(help="Kind of device: cpu, cuda; by default the backend's.")] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Weights: float32, float16, bfloat16, int8, int4; ROLE=PRECISION,... and head= or embedding=; auto: "
            "on a CPU the fastest within --max-divergence, float16 with TensorRT."
        ),
    ] = "auto",
    max_divergence: Annotated[
        float, typer.Option(metavar="NATS", help="Most that auto may lose: Kullback-Leibler divergence a token.")
    ] = MAX_DIVERGENCE,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text or prompts (.jsonl) that auto judges precisions on, 8192 tokens from all over it; by default "
            "the bundle's reference texts.",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens of one sequence, prompt and text; 1024, or the context if shorter."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences that step together.")] = 1,
    compute_capability: Annotated[
        str | None,
        typer.Option(metavar="8.6,8.9", help="GPU generations to compile for ahead of time; by default 8.0 and newer."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text of the kind that the model is to write, or conversations (.jsonl), 8192 tokens from all over "
            "it: int8 and int4 weights are rounded by GPTQ on them.",
        ),
    ] = None,
    build_id: Annotated[str | None, typer.Option("--id", help="Name of the build.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a build of that name.")] = False,
    num_threads: NumThreads = None,
    as_json: AsJson = False,
) -> None:
    """Quantise and lower a bundle for a backend, then compile its engines or measure its rounds on this device."""
    with command_errors(as_json):
        try:
            from ptgc.compiler.build import BuildOptions, build
        except ImportError as error:
            raise BackendError(
                f"Building needs ONNX's Python packages: {error}.", 'Install them: pip install "ptgc[build]"'
            ) from error
        options = BuildOptions(
            backend=backend,
            device=device,
            precision=precision,
            max_divergence=max_divergence,
            text=text,
            max_length=max_length,
            batch_size=batch_size,
            build_id=build_id,
            replace=replace,
            stage=stage,
            num_threads=num_threads,
            compute_capabilities=_capabilities(compute_capability),
            calibration=calibration,
        )
        with progress() as step:
            made = build(bundle, options, step)
        _show(made, as_json=as_json)


def _capabilities(text: str | None) -> tuple[str, ...]:
    """`8.6,8.9` as given, ascending and each once."""
    if text is None:
        return ()
    parts = {part.strip() for part in text.split(",")}
    if not all(re.fullmatch(r"[1-9]\d?\.\d", part) for part in parts):
        raise UsageError(
            f"--compute-capability is '{text}'; it must be numbers such as 8.6 with commas between.",
            "For example: --compute-capability 8.6,8.9,12.0",
        )
    return tuple(sorted(parts, key=lambda part: [int(number) for number in part.split(".")]))


def _show(made: Build, *, as_json: bool) -> None:
    """Where the build is and how large."""
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
