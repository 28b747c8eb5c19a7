"""Choosing the build of a bundle for a benchmark."""

from __future__ import annotations

from collections.abc import Iterable

from ptgc.bench.contestants import precision_of
from ptgc.errors import BundleError, UsageError
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
    """The newest build of a precision with at least this length.

    Raises:
        BundleError: There is none; the message says how to make it.
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


def parse_precisions(text: str, known: Iterable[str]) -> list[str]:
    """Precisions from a comma-separated list.

    Raises:
        UsageError: One is unknown, or the list is empty.
    """
    allowed = list(known)
    chosen = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in chosen if name not in allowed]
    if unknown or not chosen:
        what = f"has {', '.join(unknown)}" if unknown else "is empty"
        raise UsageError(f"--precision {what}; there are: {', '.join(allowed)}.")
    return chosen
