"""The second stage of a build: engines are compiled ahead of time, or loaded and measured on the device."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ptgc.compiler.backends.base import Backend, Progress
from ptgc.compiler.build.compiler_options import CompilerOptions
from ptgc.compiler.tuning.cost import measure_costs
from ptgc.runtime.costs import write_costs
from ptgc.runtime.libraries import device_is_here
from ptgc.spec.bundle import Build, open_build, write_build_manifest
from ptgc.spec.bundle_files import sha256
from ptgc.spec.manifest import FileEntry
from ptgc.spec.staging import staged_directory, take_over


@dataclass(frozen=True)
class CompileOptions:
    """How to compile."""

    num_threads: int | None = None
    """Threads that rounds are measured with; None takes the available processors."""
    compiler: CompilerOptions = field(default_factory=CompilerOptions)
    """Options of a compiler that works ahead of time."""


def compile_build(bundle: Path, build: Build, backend: Backend, options: CompileOptions, progress: Progress) -> Build:
    """Make every engine of a prepared build, whether or not it is in its final place.

    If the library compiles when it loads a graph (ONNX Runtime) and the device is present, every engine is loaded,
    which proves that the backend accepts it, and its rounds are measured. If the library compiles ahead of time, the
    engines are written into the build. Nothing runs then, because the device need not be present.

    Raises:
        BackendError: The backend refuses the engine.
        BuildError: The compiler refuses a graph.
    """
    build.verify()
    backend.check_version(build.manifest.lowering)
    if backend.compiles_ahead:
        return _compile_ahead(build, backend, options, progress)
    if not device_is_here(build.manifest.device):
        again = f"ptgc build {bundle} --device cuda --stage compile --id {build.manifest.id}"
        progress(f"No NVIDIA GPU is here: nothing was loaded, nothing measured. On the machine that has it: {again}")
        return build
    progress("Loading the engine and measuring rounds")
    write_costs(build, measure_costs(build, options.num_threads, progress))
    return build


def _compile_ahead(build: Build, backend: Backend, options: CompileOptions, progress: Progress) -> Build:
    """Write the build with its engines; it replaces the prepared build once all engines are made."""
    old = {engine.path for engine in build.manifest.engines}
    prepared = tuple(entry for entry in build.manifest.files if entry.path not in old)
    with staged_directory(build.path, replace=True) as folder:
        for entry in prepared:
            take_over(build.path / entry.path, folder / entry.path)
        engines = backend.compile(build, folder, options.compiler, progress)
        made = tuple(_entry(folder, engine.path) for engine in engines)
        manifest = replace(
            build.manifest,
            files=tuple(sorted((*prepared, *made), key=lambda entry: entry.path)),
            engines=engines,
            compute_capabilities=options.compiler.compute_capabilities,
            provenance=_provenance(build, backend, options.compiler),
        )
        write_build_manifest(folder, manifest)
    return open_build(build.path)


def _provenance(build: Build, backend: Backend, options: CompilerOptions) -> dict[str, Any]:
    """The build's provenance, updated with what the new engines were made with."""
    kept = {key: value for key, value in build.manifest.provenance.items() if key not in ("compiler", "adopted")}
    added: dict[str, Any] = {"backend_version": backend.version()}
    if options.settings():
        added["compiler"] = options.settings()
    if options.engines:
        added["adopted"] = sorted(options.engines)
    return kept | added


def _entry(folder: Path, path: str) -> FileEntry:
    file = folder / path
    return FileEntry(path, file.stat().st_size, sha256(file))
