"""Measures what a round of N tokens costs on this device."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import quantiles

from ptgc.runtime._core import Generator
from ptgc.runtime.costs import CostCurve, RoundCost
from ptgc.runtime.generator import default_num_threads, load_core
from ptgc.runtime.load_options import LoadOptions
from ptgc.spec.bundle import Build
from ptgc.spec.shapes import ShapePlan

_PAST = 256  # tokens in the cache while measuring, if the build holds as many
_SECONDS = 4.0  # seconds to spend on all verifying widths together, after one warm-up each
_MAX_REPEATS = 9
_ATTEMPTS = 3  # on a busy machine
_LONGEST_PAUSE = 2.0  # seconds between two of them
_PREFILL_REPEATS = 3  # for wider rounds, which no choice depends on


def measure_costs(
    build: Build, num_threads: int | None, progress: Callable[[str], None], drafter: str | None = None
) -> CostCurve:
    """Time bare engine runs of every width, interleaved so that drift of the machine affects all alike.

    Verifying widths compute logits for every row, prefill widths for one; a drafter's for as many rows as may draft. Of
    several drafters of which one is chosen, the first or the given one is measured. If the machine is busy, this waits
    a little and measures again; of several noisy curves the least noisy is returned.
    """
    shapes = build.manifest.shapes
    threads = num_threads or default_num_threads()
    core = load_core(build, num_threads=threads, options=LoadOptions(drafter=drafter))
    past = min(_PAST, shapes.max_length // 2)
    # Whichever drafter is loaded is the core's role "drafter", unless it is one of heads.
    roles = [name for name in ("target", "drafter", "heads") if name in shapes.roles]
    if not roles:  # canvas loops choose nothing by the cost of their rounds
        return CostCurve(num_threads=threads, past_length=0, rounds={})
    curves: list[CostCurve] = []
    while True:
        start = time.perf_counter()
        found = {role: _measure_role(role, core, shapes, past) for role in roles}
        curves.append(CostCurve(threads, past, found["target"], found.get("drafter") or found.get("heads", {})))
        if not curves[-1].is_noisy or len(curves) == _ATTEMPTS:
            break
        progress(f"The machine is busy: rounds differ by {curves[-1].noise:.0%}; measuring them again")
        time.sleep(min(_LONGEST_PAUSE, time.perf_counter() - start))
    core.close()
    progress(f"Measured {sum(map(len, found.values()))} widths")
    best = min(curves, key=lambda curve: curve.noise)
    if best.is_noisy:
        progress(noise_warning(build, best))
    return best


def noise_warning(build: Build, curve: CostCurve) -> str:
    """A warning about a noisy curve, with the command that measures it again."""
    name, threads = build.manifest.id, curve.num_threads
    return (
        f"The rounds of build '{name}' with {threads} threads were measured on a busy machine (they differ by "
        f"{curve.noise:.0%}): choices go by the fastest runs. On a quiet one, measure again: ptgc build BUNDLE "
        f"--stage compile --id {name} --num-threads {threads}"
    )


def _measure_role(role: str, core: Generator, shapes: ShapePlan, past: int) -> dict[int, RoundCost]:
    """Measure one role; widths up to the verifying width are measured more often than those that read prompts."""
    own, chosen = shapes.roles[role], shapes.roles["target"].verify_width
    widths = own.widths or (1,)
    logits = {
        width: max(min(width, own.verify_width), 1) if role != "target" or width <= own.verify_width else 1
        for width in widths
    }
    samples: dict[int, list[float]] = {}
    for width in widths:
        core.measure(width, logits[width], past, 1, role)
        samples[width] = list(core.measure(width, logits[width], past, 1, role))
    once = sum(samples[width][0] for width in widths if width <= chosen)
    repeats = min(_MAX_REPEATS, max(3, int(_SECONDS / once)))
    for repeat in range(1, repeats):
        for width in widths:
            if width <= chosen or repeat < _PREFILL_REPEATS:
                samples[width] += core.measure(width, logits[width], past, 1, role)
    return {width: _cost(times, verifies=width <= chosen) for width, times in samples.items()}


def _cost(times: list[float], *, verifies: bool) -> RoundCost:
    low, middle, high = quantiles(times, n=4, method="inclusive")
    return RoundCost(middle, min(times), max(times), len(times), (high - low) / middle if verifies else 0.0)
