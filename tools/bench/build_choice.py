"""Which build of a bundle a benchmark takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console

from ptgc.errors import BundleError, UsageError
from ptgc.runtime.costs import read_costs
from ptgc.spec.bundle import Build, Bundle

DEVICE = "cpu"


def builds_here(bundle: Bundle) -> list[Build]:
    """Builds of this export for one sequence on the CPU, oldest first."""
    return [
        build
        for build in bundle.builds()
        if build.manifest.device == DEVICE
        and build.manifest.bundle_sha256 == bundle.sha256
        and build.manifest.shapes.batch == 1
    ]


def newest_build(bundle: Bundle, precision: str, min_length: int) -> Build:
    """The newest build of a precision that holds so many tokens.

    Raises:
        BundleError: There is none; says how to make it.
    """
    fitting = [build for build in builds_here(bundle) if precision_of(build) == precision]
    make = f"Make one: ptgc build {bundle.path} --precision {precision}"
    if not fitting:
        raise BundleError(f"{bundle.path} has no {precision} build of this export for one sequence.", make)
    holding = [build for build in fitting if build.manifest.shapes.max_length >= min_length]
    if not holding:
        longest = max(build.manifest.shapes.max_length for build in fitting)
        raise BundleError(
            f"The {precision} builds of {bundle.path} hold {longest} tokens at most; "
            f"the longest prompt and its text take {min_length}.",
            f"{make} --max-length {min_length}",
        )
    return holding[-1]


def newest_builds(bundle: Bundle, precisions: Sequence[str], min_length: int) -> dict[str, Build]:
    """The newest build of each precision.

    Raises:
        BundleError: Precisions without one; all of them are named.
    """
    found, problems = {}, []
    for precision in precisions:
        try:
            found[precision] = newest_build(bundle, precision, min_length)
        except BundleError as error:
            problems.append(error)
    if problems:
        raise BundleError("\n".join(error.message for error in problems), "\n".join(error.action for error in problems))
    return found


def note_missing_costs(build: Build, num_threads: int, notes: Console) -> None:
    """Say that draft lengths will be guessed, where the build was not measured with so many threads."""
    if read_costs(build, num_threads) is None:
        notes.print(
            f"Build '{build.manifest.id}' was not measured here with {num_threads} threads, so draft lengths are "
            f"guessed. Measure it: ptgc build {build.path.parent.parent} --id {build.manifest.id} "
            f"--stage compile --num-threads {num_threads}",
            markup=False,
            soft_wrap=True,
        )


def precision_of(build: Build) -> str:
    """Its precision, or precisions where its roles differ."""
    return ",".join(sorted(set(build.manifest.precision.values())))


def parse_precisions(text: str, known: Iterable[str]) -> list[str]:
    """Precisions from a list with commas.

    Raises:
        UsageError: One that is unknown, or none.
    """
    allowed = list(known)
    chosen = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in chosen if name not in allowed]
    if unknown or not chosen:
        what = f"has {', '.join(unknown)}" if unknown else "is empty"
        raise UsageError(f"--precision {what}; there are: {', '.join(allowed)}.")
    return chosen
