"""Host cost: decoding compared with bare engine runs of the same widths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from statistics import median
from typing import Any

from ptgc.bench.figures import Spread
from ptgc.runtime import Generator, _core
from ptgc.spec.shapes import RoleShapes
from ptgc.texts.prompt_set import Prompt

BARE_RUNS = 8
"""Bare runs of every width before a text, and as many after it."""


class Mode(str, Enum):
    """How a text is written."""

    PLAIN = "plain"
    """One token per round."""
    DRAFTS = "drafts"
    """With the bundle's strategy."""


@dataclass(frozen=True)
class HostRun:
    """One text and the bare runs around it."""

    prompt: str
    """Name of the prompt."""
    mode: str
    """How it was decoded."""
    repeat: int
    """Number of the repeat."""
    new_tokens: int
    """Tokens written."""
    widths: dict[int, int]
    """Rounds of decoding by width."""
    decode_seconds: float
    """From the first new token to the last."""
    engine_seconds: float
    """Time inside the engine, from the trace."""
    round_seconds: float
    """Time inside rounds, from the trace."""
    bare_seconds: float
    """Time of the same rounds as bare engine runs."""

    @property
    def rounds(self) -> int:
        """Rounds of decoding."""
        return sum(self.widths.values())

    @property
    def ratio(self) -> float:
        """Decoding over bare runs: the figure to keep low."""
        return self.decode_seconds / self.bare_seconds

    @property
    def engine_ratio(self) -> float:
        """Engine calls while decoding over bare runs: the engine's part of the ratio."""
        return self.engine_seconds / self.bare_seconds

    @property
    def host_microseconds(self) -> float:
        """Time outside the engine per round."""
        return (self.decode_seconds - self.engine_seconds) / self.rounds * 1e6

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return asdict(self)


def decode_rounds(trace: Sequence[_core.TraceRound]) -> list[_core.TraceRound]:
    """The rounds after the one that wrote the first token, which ends prefill."""
    first = next((at for at, round_ in enumerate(trace) if round_.emitted_ids), len(trace))
    return list(trace[first + 1 :])


def bare_sum(widths: Mapping[int, int], samples: Mapping[int, Sequence[float]]) -> float:
    """Seconds of the given number of rounds of each width, each counted as the median of its samples."""
    return sum(count * median(samples[width]) for width, count in widths.items())


def measure_host_run(generator: Generator, prompt: Prompt, mode: Mode, max_new_tokens: int, repeat: int) -> HostRun:
    """Write a text between two series of bare runs, with half of the text in their cache.

    The widths that occur are known only afterwards, so the first series covers all widths of verifying rounds.
    """
    core, shapes = generator.core, generator.build.manifest.shapes.roles["target"]
    past = len(prompt.ids) + max_new_tokens // 2
    likely = [1] if mode is Mode.PLAIN else [width for width in shapes.widths if width <= shapes.verify_width]
    samples = {width: bare_runs(core, shapes, width, past) for width in likely}
    request = _core.Request(list(prompt.ids), max_new_tokens, plain=mode is Mode.PLAIN, trace=True)
    result = core.generate([request])[0]
    rounds = decode_rounds(result.trace)
    widths = dict(Counter(round_.width for round_ in rounds))
    for width in widths:
        samples.setdefault(width, []).extend(bare_runs(core, shapes, width, past))
    return HostRun(
        prompt=prompt.name,
        mode=mode.value,
        repeat=repeat,
        new_tokens=len(result.token_ids),
        widths=widths,
        decode_seconds=result.statistics.decode_seconds,
        engine_seconds=sum(round_.engine_seconds for round_ in rounds),
        round_seconds=sum(round_.round_seconds for round_ in rounds),
        bare_seconds=bare_sum(widths, samples),
    )


def bare_runs(core: _core.Generator, shapes: RoleShapes, width: int, past_length: int) -> list[float]:
    """Seconds of bare runs of a width, without the first, which has cold caches."""
    logits = min(width, shapes.verify_width)
    return list(core.measure(width, logits, past_length, BARE_RUNS + 1))[1:]


def summarize_host_runs(runs: Sequence[HostRun]) -> dict[str, Any]:
    """The figures of a build, by mode."""
    found = {}
    for mode in dict.fromkeys(run.mode for run in runs):
        own = [run for run in runs if run.mode == mode]
        found[mode] = {
            "ratio": Spread.of(run.ratio for run in own).to_json(),
            "engine_ratio": Spread.of(run.engine_ratio for run in own).to_json(),
            "host_microseconds": Spread.of(run.host_microseconds for run in own).to_json(),
            "round_microseconds": 1e6 * median(run.decode_seconds / run.rounds for run in own),
        }
    return found
