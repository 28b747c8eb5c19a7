"""`ptgc build`: engines from a bundle."""

from __future__ import annotations

from typing import Annotated

import typer

from ptgc.cli.console import command_errors, megabytes, print_json, progress, results
from ptgc.cli.options import AsJson, BundlePath, NumThreads
from ptgc.compiler.stage import Stage
from ptgc.errors import BackendError


def command(
    bundle: BundlePath,
    stage: Annotated[Stage, typer.Option(help="prepare needs no device; compile makes engines and measures.")] = (
        Stage.ALL
    ),
    backend: Annotated[str, typer.Option(help="Engine library: onnxruntime.")] = "onnxruntime",
    device: Annotated[str, typer.Option(help="Kind of device: cpu.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="Weights: float32, int8, int4, auto (int8 on a CPU), or ROLE=PRECISION,...")
    ] = "auto",
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens of one sequence, prompt and text; 1024, or the context if shorter."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences that step together.")] = 1,
    build_id: Annotated[str | None, typer.Option("--id", help="Name of the build.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a build of that name.")] = False,
    num_threads: NumThreads = None,
    as_json: AsJson = False,
) -> None:
    """Quantise and lower a bundle for a backend, and measure its rounds on this device."""
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
            max_length=max_length,
            batch_size=batch_size,
            build_id=build_id,
            replace=replace,
            stage=stage,
            num_threads=num_threads,
        )
        with progress() as step:
            made = build(bundle, options, step)
        weights = made.manifest.weight_bytes
        if as_json:
            print_json({"build": made.manifest.id, "path": str(made.path), "weight_bytes": weights})
        else:
            results.print(f"{made.path}: {megabytes(weights)} of weights", soft_wrap=True, markup=False)
