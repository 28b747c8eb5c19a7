"""Texts that were written, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ptgc.bench.contestants import Contestant
from ptgc.bench.engines.base import Written


@dataclass(frozen=True)
class Run:
    """One text that was written."""

    contestant: Contestant
    """By whom."""
    kind: str
    """The prompt's set."""
    prompt: str
    """Name of the prompt."""
    repeat: int
    """Which time."""
    written: Written
    """The text and what it took."""
    idle_seconds: float
    """How long the engine had waited before."""
    idle_cpu_seconds: float
    """Processor time that it took while it waited."""

    @property
    def tokens_per_second(self) -> float:
        """Of decoding; what was known with the first token belongs to prefill."""
        return self.written.decode_tokens / self.written.decode_seconds

    @property
    def accept_length(self) -> float:
        """Tokens a round of decoding."""
        return self.written.decode_tokens / max(1, self.written.rounds)

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        idle = {"idle_seconds": self.idle_seconds, "idle_cpu_seconds": self.idle_cpu_seconds}
        who = {"name": self.contestant.name, "prompt": self.prompt, "repeat": self.repeat}
        return {**who, **asdict(self.written), **idle}


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

    @property
    def kinds(self) -> list[str]:
        """The sets that there are."""
        return list(dict.fromkeys(run.kind for runs in self._runs.values() for run in runs))

    def of(self, contestant: Contestant, kind: str | None = None) -> dict[str, list[Run]]:
        """The runs of one, by prompt; of one set, or of all."""
        found: dict[str, list[Run]] = {}
        for run in self._runs[contestant]:
            if kind in (None, run.kind):
                found.setdefault(run.prompt, []).append(run)
        return found

    def speeds(self, contestant: Contestant, kind: str | None = None) -> dict[str, float]:
        """Tokens a second by prompt: the median of its repeats."""
        own = self.of(contestant, kind)
        return {prompt: median(run.tokens_per_second for run in runs) for prompt, runs in own.items()}

    def texts(self, contestant: Contestant) -> dict[str, list[int]]:
        """What was written first, by prompt."""
        return {prompt: runs[0].written.token_ids for prompt, runs in self.of(contestant).items()}

    def differing(self, one: Contestant, other: Contestant) -> list[str]:
        """Prompts for which two did not write the same."""
        texts = self.texts(other)
        return [prompt for prompt, ids in self.texts(one).items() if ids != texts[prompt]]

    def all(self, contestant: Contestant) -> list[Run]:
        """Every run of one."""
        return list(self._runs[contestant])
