"""The second stage of a build: engines compiled ahead of time, or made while loading and measured on the device."""

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
    """Threads that rounds are measured with; None takes the processors at hand."""
    compiler: CompilerOptions = field(default_factory=CompilerOptions)
    """What a compiler that works ahead of time is told."""


def compile_build(bundle: Path, build: Build, backend: Backend, options: CompileOptions, progress: Progress) -> Build:
    """Make every engine of a prepared build, which may have its final place or not.

    Where the library compiles while it loads (ONNX Runtime), every engine is loaded, which proves that the backend
    takes it, and its rounds are measured, if the device is here. Where it compiles ahead of time, engines become files
    of the build; nothing runs, because the device need not be here.

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
    """The build with engines in it; it takes the prepared one's place when all are made."""
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
    """What engines were made with, in place of what others were made with before."""
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
