"""Engines that were compiled ahead of time: are they those of the library that is here?"""

from __future__ import annotations

from ptgc.compiler.backends import BACKENDS
from ptgc.compiler.backends.engine_file import is_stale, read_engine_file
from ptgc.compiler.checking.report import StageReport
from ptgc.errors import BackendError, EngineStaleError
from ptgc.spec.bundle import Build


def check_engine_files(build: Build) -> StageReport:
    """Compare what every engine says of itself with the library that is installed; without one, only that it is one.

    Args:
        build: One that has engines.

    Raises:
        BuildError: A file is no engine.
    """
    report = StageReport(f"{build.manifest.id}: engines")
    installed = installed_version(build.manifest.backend)
    for engine in build.manifest.engines:
        made_by = read_engine_file(build.path / engine.path).version
        if installed is not None and is_stale(made_by, installed):
            report.divergences.append(
                f"{EngineStaleError.code}: {engine.path} was made by {build.manifest.backend} {made_by}, and "
                f"{installed} is installed; compile it again: {renewal(build)}"
            )
    return report


def installed_version(backend: str) -> str | None:
    """Version of a backend's library; None where it is not installed."""
    try:
        return BACKENDS.create(backend).version()
    except BackendError:
        return None


def renewal(build: Build) -> str:
    """The command that compiles a build's engines again, with the options that they were compiled with."""
    made = build.manifest
    words = ["ptgc build", str(build.path.parent.parent), f"--backend {made.backend} --stage compile --id {made.id}"]
    if made.compute_capabilities:
        words.append(f"--compute-capability {','.join(made.compute_capabilities)}")
    words += [f"{name} {value}".rstrip() for name, value in made.provenance.get("compiler", {}).items()]
    return " ".join(words)
