"""What a round of N tokens costs on this device."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from ptgc.runtime._core import Generator
from ptgc.runtime.costs import CostCurve, RoundCost
from ptgc.runtime.generator import default_num_threads, load_core
from ptgc.spec.bundle import Build
from ptgc.spec.shapes import ShapePlan

_PAST = 256  # tokens in the cache while measuring, where the build holds as many
_SECONDS = 4.0  # to spend on all verifying widths together, after one warm-up each
_MAX_REPEATS = 9
_PREFILL_REPEATS = 3  # of wider rounds, from which nothing is chosen


def measure_costs(build: Build, num_threads: int | None, progress: Callable[[str], None]) -> CostCurve:
    """Time bare engine runs of every width, interleaved so that drift of the machine spreads over all.

    Verifying widths compute logits for every row, prefill widths for one.
    """
    shapes = build.manifest.shapes
    threads = num_threads or default_num_threads()
    core = load_core(build, num_threads=threads)
    past = min(_PAST, shapes.max_length // 2)
    if not shapes.widths:  # no choice of a loop over canvases depends on what its rounds cost
        return CostCurve(num_threads=threads, past_length=0, rounds={})
    target = _measure_role("target", core, shapes, past)
    drafter = _measure_role("drafter", core, shapes, past) if "drafter" in build.manifest.roles else {}
    core.close()
    progress(f"Measured {len(target) + len(drafter)} widths")
    return CostCurve(num_threads=threads, past_length=past, rounds=target, drafter_rounds=drafter)


def _measure_role(role: str, core: Generator, shapes: ShapePlan, past: int) -> dict[int, RoundCost]:
    """A drafter chooses one token a round, so that it needs one row of logits."""
    logits = {width: width if width <= shapes.verify_width and role == "target" else 1 for width in shapes.widths}
    samples: dict[int, list[float]] = {}
    for width in shapes.widths:
        core.measure(width, logits[width], past, 1, role)
        samples[width] = list(core.measure(width, logits[width], past, 1, role))
    once = sum(samples[width][0] for width in shapes.widths if width <= shapes.verify_width)
    repeats = min(_MAX_REPEATS, max(3, int(_SECONDS / once)))
    for repeat in range(1, repeats):
        for width in shapes.widths:
            if width <= shapes.verify_width or repeat < _PREFILL_REPEATS:
                samples[width] += core.measure(width, logits[width], past, 1, role)
    return {width: RoundCost(median(times), min(times), max(times), len(times)) for width, times in samples.items()}
