"""Rounds of a build: engine time against the floor set by memory, host time, launches and waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import onnx_ir as ir
from api_calls import Counts, count_api_calls, per_round, summarize
from parts.base import Figures, Settings

from ptgc.bench.figures import Spread
from ptgc.compiler.checking.references import read_references
from ptgc.runtime import Generator
from ptgc.runtime.results import GenerationResult
from ptgc.spec.bundle import Build
from ptgc.spec.role import Role

WIDTHS = (1, 2, 4, 8, 16, 128)
_COUNTED = ("graph_launches", "uncaptured_runs", "synchronisations")
_GATHERS = ("Gather", "GatherBlockQuantized")
_PROFILED = 64  # tokens of the text whose CUDA calls are counted
_MICRO = 1e6


def measure_build(bundle: Path, build_id: str, settings: Settings, figures: Figures) -> dict[str, Any]:
    """All measurements of one build; failures are recorded, and the rest goes on.

    Raises:
        PtgcError: The build cannot be loaded.
    """
    with Generator(bundle, build=build_id, device=settings.device, draft_length="fixed") as generator:
        build = generator.build
        found: dict[str, Any] = {
            "build": build_id,
            "load_seconds": generator.core.load_seconds,
            "weight_bytes": build.manifest.weight_bytes,
            "bytes_read": bytes_read(build.path / build.manifest.roles["target"].graph),
        }
        with figures.attempt(f"{build_id}, widths"):
            found["widths"] = measure_widths(generator, found["bytes_read"], settings)
        prompt = max((text.given for text in read_references(generator.bundle).texts), key=len)
        for mode in ("plain", "drafts"):
            with figures.attempt(f"{build_id}, {mode}"):
                found[mode] = measure_mode(generator, prompt, mode == "plain", settings)
        if settings.bandwidth and "plain" in found:
            past = len(prompt) + found["plain"]["new_tokens"] // 2
            read = found["bytes_read"] + past * bytes_per_token(build)
            found["plain"]["floor_share"] = found["plain"]["tokens_per_second"] * read / settings.bandwidth
    return found


def measure_widths(generator: Generator, weights: int, settings: Settings) -> dict[str, Any]:
    """Measure bare engine runs at every width of `WIDTHS` that the build has, in turns.

    Returns:
        By width: spread of seconds; if the bandwidth is known, the floor and its share of the median.
    """
    core, shapes = generator.core, generator.build.manifest.shapes
    target = shapes.roles["target"]
    widths = [width for width in WIDTHS if width in target.widths]
    past = min(256, shapes.max_length // 2)
    repeats = 3 if settings.small else 20
    samples: dict[int, list[float]] = {width: [] for width in widths}
    for turn in range(repeats + 1):
        for width in widths:
            logits = width if width <= target.verify_width else 1
            seconds = core.measure(width, logits, past, 3)
            if turn:  # the first run of a shape allocates, and captures
                samples[width] += seconds
    found: dict[str, Any] = {}
    for width, seconds in samples.items():
        spread = Spread.of(seconds)
        found[str(width)] = {"past_length": past, "seconds": spread.to_json()}
        if settings.bandwidth:
            floor = (weights + (past + width) * bytes_per_token(generator.build)) / settings.bandwidth
            found[str(width)] |= {"floor_seconds": floor, "floor_share": floor / spread.median}
    return found


def measure_mode(generator: Generator, prompt: Sequence[int], plain: bool, settings: Settings) -> dict[str, Any]:
    """Write texts of two lengths: speed and host time of the longer, and counts from the difference of both."""
    room = generator.build.manifest.shapes.max_length - len(prompt)
    long = min(24 if settings.small else 256, room)
    short = long // 4

    def write(count: int) -> GenerationResult:
        return generator.generate(list(prompt), max_new_tokens=count, plain=plain, ignore_eos=True)

    write(long)  # captures all shapes
    first = write(short)
    runs = [write(long) for _ in range(2 if settings.small else 7)]
    last = runs[-1].statistics
    counted = [(one.rounds, _counted(one)) for one in (first.statistics, last)]
    found: dict[str, Any] = {
        "new_tokens": last.new_tokens,
        "rounds": last.rounds,
        "accept_length": last.mean_accept_length,
        "tokens_per_second": median(run.statistics.tokens_per_second for run in runs),
        "host_microseconds": Spread.of(_host_seconds(run) * _MICRO for run in runs).to_json(),
        "round_microseconds": median(run.statistics.decode_seconds / run.statistics.rounds for run in runs) * _MICRO,
        "per_round": per_round(*counted),
    }
    if settings.device == "cuda":
        calls = cuda_calls(write, min(_PROFILED, long))
        found |= {"cuda_calls_per_round": calls, "cuda_per_round": summarize(calls)}
    return found


def cuda_calls(write: Callable[[int], GenerationResult], tokens: int) -> Counts:
    """CUDA calls per round, counted while texts of two lengths are written.

    Args:
        write: Writes a text of the given number of tokens.
        tokens: Length of the longer text; it is short, because every event is kept.
    """
    found = []
    for count in (tokens // 4, tokens):
        results: list[GenerationResult] = []
        counts = count_api_calls(lambda count=count, results=results: results.append(write(count)))
        found.append((results[0].statistics.rounds, counts))
    return per_round(*found)


def _host_seconds(run: GenerationResult) -> float:
    """Seconds outside the engine per round."""
    stats = run.statistics
    return (stats.decode_seconds - stats.engine_seconds) / stats.rounds


def _counted(statistics: Any) -> Counts:
    """The runtime's own counters."""
    return {name: getattr(statistics, name) for name in _COUNTED}


def bytes_per_token(build: Build) -> int:
    """Bytes of keys and values that attention reads for every token in the cache."""
    role: Role = build.manifest.roles["target"]
    return sum(state.bytes_per_token for state in role.states)


def bytes_read(graph: Path) -> int:
    """Bytes of weights that a round must read: all except tables of which it reads single rows."""
    found: dict[object, int] = {}
    for value in ir.load(graph).graph.initializers.values():
        tensor = value.const_value
        only_rows = all(use.node.op_type in _GATHERS and use.idx != 1 for use in value.uses())
        if tensor is not None and not only_rows:
            place = (tensor.location, tensor.offset) if isinstance(tensor, ir.ExternalTensor) else id(tensor)
            found[place] = tensor.nbytes
    return sum(found.values())
