"""What the runs of bench_genai.py come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from engine_worker import Mode
from figures import Spread, copied_share, ratios

ENGINES = ("genai", "ptgc")
AUTOREGRESSIVE = "autoregressive"
"""ptgc on a bundle that was exported to decode plainly."""
COMPARED = (
    ("ptgc plain", "genai plain"),
    ("autoregressive plain", "genai plain"),
    ("ptgc ngram", "ptgc plain"),
    ("ptgc ngram", "autoregressive plain"),
    ("ptgc ngram", "genai ngram"),
)
"""Ratios of every precision: the first over the second."""


@dataclass(frozen=True, order=True)
class Contestant:
    """An engine in a mode at a precision."""

    precision: str
    """Of the weights."""
    engine: str
    """`genai`, `ptgc` or `autoregressive`."""
    mode: Mode
    """How it decodes."""

    @property
    def name(self) -> str:
        """Without the precision."""
        return f"{self.engine} {self.mode.value}"


@dataclass(frozen=True)
class Run:
    """One text that was written."""

    precision: str
    """Of the weights."""
    engine: str
    """`genai`, `ptgc` or `autoregressive`."""
    mode: str
    """How it was decoded."""
    prompt: str
    """Name of the prompt."""
    repeat: int
    """Which time."""
    token_ids: tuple[int, ...]
    """What was written."""
    prefill_seconds: float
    """Until the first new token was known."""
    decode_seconds: float
    """From then until the last one was known."""
    rounds: int
    """Rounds of decoding."""
    drafted_tokens: int
    """Draft tokens proposed."""
    accepted_tokens: int
    """Draft tokens kept."""
    idle_seconds: float
    """How long the engine had waited before."""
    idle_cpu_seconds: float
    """Processor time that it took while it waited."""

    @property
    def contestant(self) -> Contestant:
        """Who wrote it."""
        return Contestant(self.precision, self.engine, Mode(self.mode))

    @property
    def tokens_per_second(self) -> float:
        """Of decoding; the first token belongs to prefill."""
        return (len(self.token_ids) - 1) / self.decode_seconds

    @property
    def accept_length(self) -> float:
        """Tokens a round of decoding."""
        return (len(self.token_ids) - 1) / self.rounds

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {**asdict(self), "token_ids": list(self.token_ids)}


class Runs:
    """All runs of a benchmark, by who wrote them."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs: dict[Contestant, list[Run]] = {}
        for run in runs:
            self._runs.setdefault(run.contestant, []).append(run)

    @property
    def contestants(self) -> list[Contestant]:
        """Everyone who wrote."""
        return list(self._runs)

    def of(self, contestant: Contestant) -> dict[str, list[Run]]:
        """The runs of one, by prompt."""
        found: dict[str, list[Run]] = {}
        for run in self._runs[contestant]:
            found.setdefault(run.prompt, []).append(run)
        return found

    def speeds(self, contestant: Contestant) -> dict[str, float]:
        """Tokens a second by prompt: the median of its repeats."""
        return {prompt: median(run.tokens_per_second for run in runs) for prompt, runs in self.of(contestant).items()}

    def texts(self, contestant: Contestant) -> dict[str, tuple[int, ...]]:
        """What was written first, by prompt."""
        return {prompt: runs[0].token_ids for prompt, runs in self.of(contestant).items()}

    def differing(self, one: Contestant, other: Contestant) -> list[str]:
        """Prompts for which two did not write the same."""
        texts = self.texts(other)
        return [prompt for prompt, ids in self.texts(one).items() if ids != texts[prompt]]


def summarize(runs: Sequence[Run], prompt_ids: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The figures of a report.

    Args:
        runs: Of every contestant the same prompts.
        prompt_ids: Tokens of the prompts, by name.
    """
    table = Runs(runs)
    precisions = list(dict.fromkeys(run.precision for run in runs))
    return {
        "precisions": {precision: _summarize_precision(table, precision, prompt_ids) for precision in precisions},
        "best": _compare_best(table),
        "waiting": _waiting(runs),
    }


def _summarize_precision(table: Runs, precision: str, prompt_ids: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    present = {one.name: one for one in table.contestants if one.precision == precision}
    compared = {
        f"{upper} / {lower}": compare(table, present[upper], present[lower])
        for upper, lower in COMPARED
        if upper in present and lower in present
    }
    return {
        "contestants": {name: _summarize_contestant(table, one, prompt_ids) for name, one in present.items()},
        "ratios": compared,
        "differing_prompts": _differing(table, present),
    }


def _summarize_contestant(
    table: Runs, contestant: Contestant, prompt_ids: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    by_prompt = table.of(contestant)
    runs = [run for prompt_runs in by_prompt.values() for run in prompt_runs]
    noise = [Spread.of(run.tokens_per_second for run in found).relative for found in by_prompt.values()]
    copied = {prompt: copied_share(prompt_ids[prompt], ids) for prompt, ids in table.texts(contestant).items()}
    lengths = {prompt: found[0].accept_length for prompt, found in by_prompt.items()}
    return {
        "tokens_per_second": _over_prompts(table.speeds(contestant)),
        "spread_of_repeats": median(noise),
        "prefill_seconds": median(run.prefill_seconds for run in runs),
        "accept_length": _over_prompts(lengths),
        "drafted_tokens": sum(run.drafted_tokens for run in runs),
        "accepted_tokens": sum(run.accepted_tokens for run in runs),
        "copied_share": _over_prompts(copied),
        "unsteady_prompts": [
            prompt for prompt, found in by_prompt.items() if len({run.token_ids for run in found}) > 1
        ],
    }


def _over_prompts(figures: Mapping[str, float]) -> dict[str, Any]:
    """A figure of every prompt, and its spread."""
    return {**Spread.of(figures.values()).to_json(), "by_prompt": dict(figures)}


def compare(table: Runs, upper: Contestant, lower: Contestant) -> dict[str, Any]:
    """Speed of one over that of another, prompt by prompt."""
    found = ratios(table.speeds(upper), table.speeds(lower))
    spread = Spread.of(found.values())
    return {"median": spread.median, "worst": spread.minimum, "best": spread.maximum, "by_prompt": found}


def _differing(table: Runs, present: Mapping[str, Contestant]) -> dict[str, list[str]]:
    """Prompts for which pairs that should agree do not: drafts change nothing, float32 is float32."""
    pairs = (("ptgc ngram", "ptgc plain"), ("genai ngram", "genai plain"), ("ptgc plain", "genai plain"))
    return {
        f"{one} vs {other}": table.differing(present[one], present[other])
        for one, other in pairs
        if one in present and other in present
    }


def _compare_best(table: Runs) -> dict[str, Any] | None:
    """The fastest mode of ours, at any precision, over the fastest of theirs."""
    fastest = {}
    for engine in ENGINES:
        own = [one for one in table.contestants if one.engine == engine]
        if not own:
            return None
        fastest[engine] = max(own, key=lambda one: median(table.speeds(one).values()))
    ours, theirs = fastest["ptgc"], fastest["genai"]
    return {
        "ptgc": f"{ours.precision} {ours.mode.value}",
        "genai": f"{theirs.precision} {theirs.mode.value}",
        **compare(table, ours, theirs),
    }


def _waiting(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """What engines burnt while others had their turn: threads spin for a moment before they sleep."""
    found = {}
    for engine in dict.fromkeys(run.engine for run in runs):
        own = [run for run in runs if run.engine == engine]
        found[engine] = {
            "cpu_seconds_a_wait": median(run.idle_cpu_seconds for run in own),
            "cpu_share": sum(run.idle_cpu_seconds for run in own) / sum(run.idle_seconds for run in own),
        }
    return found
