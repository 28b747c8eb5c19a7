"""The second stage of a build: engines made and measured on the device."""

from __future__ import annotations

from collections.abc import Callable

from ptgc.compiler.cost import measure_costs
from ptgc.runtime.costs import write_costs
from ptgc.spec.bundle import Build


def compile_build(build: Build, num_threads: int | None, progress: Callable[[str], None]) -> None:
    """Load every engine, which proves that the backend takes it, and measure what its rounds cost here.

    ONNX Runtime on the CPU compiles while it loads, so that the prepared graph is the engine.

    Raises:
        BackendError: The backend refuses the engine.
    """
    build.verify()
    progress("Loading the engine and measuring rounds")
    write_costs(build, measure_costs(build, num_threads, progress))
