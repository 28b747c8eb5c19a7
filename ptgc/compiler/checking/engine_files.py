"""Checks that engines compiled ahead of time were made by the installed version of their library."""

from __future__ import annotations

from ptgc.compiler.backends import BACKENDS
from ptgc.compiler.backends.engine_file import is_stale, read_engine_file
from ptgc.compiler.checking.report import StageReport
from ptgc.errors import BackendError, EngineStaleError
from ptgc.spec.bundle import Build


def check_engine_files(build: Build) -> StageReport:
    """Compare the version in every engine file with the installed library; without the library, only read the file.

    Args:
        build: A build with engines.

    Raises:
        BuildError: A file is not an engine.
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
    """Version of a backend's library; None if it is not installed."""
    try:
        return BACKENDS.create(backend).version()
    except BackendError:
        return None


def renewal(build: Build) -> str:
    """The command that compiles a build's engines again, with the same options."""
    made = build.manifest
    words = ["ptgc build", str(build.path.parent.parent), f"--backend {made.backend} --stage compile --id {made.id}"]
    if made.compute_capabilities:
        words.append(f"--compute-capability {','.join(made.compute_capabilities)}")
    words += [f"{name} {value}".rstrip() for name, value in made.provenance.get("compiler", {}).items()]
    return " ".join(words)
