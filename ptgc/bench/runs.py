"""Runs: the texts that the contestants wrote."""

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
    """The contestant that wrote it."""
    kind: str
    """The prompt's set."""
    prompt: str
    """Name of the prompt."""
    repeat: int
    """Index of the repetition."""
    written: Written
    """The text and its costs."""
    idle_seconds: float
    """How long the engine had waited before it."""
    idle_cpu_seconds: float
    """Processor time that the engine used while it waited."""

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed; tokens that were known with the first one belong to prefill."""
        return self.written.decode_tokens / self.written.decode_seconds

    @property
    def accept_length(self) -> float:
        """Tokens per decoding round."""
        return self.written.decode_tokens / max(1, self.written.rounds)

    def to_json(self) -> dict[str, Any]:
        """This as reports have it."""
        idle = {"idle_seconds": self.idle_seconds, "idle_cpu_seconds": self.idle_cpu_seconds}
        who = {"name": self.contestant.name, "prompt": self.prompt, "repeat": self.repeat}
        return {**who, **asdict(self.written), **idle}


class Runs:
    """All runs of a benchmark, by contestant."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs: dict[Contestant, list[Run]] = {}
        for run in runs:
            self._runs.setdefault(run.contestant, []).append(run)

    @property
    def contestants(self) -> list[Contestant]:
        """All contestants."""
        return list(self._runs)

    @property
    def kinds(self) -> list[str]:
        """The prompt sets."""
        return list(dict.fromkeys(run.kind for runs in self._runs.values() for run in runs))

    def of(self, contestant: Contestant, kind: str | None = None) -> dict[str, list[Run]]:
        """The runs of a contestant by prompt, for one set or all."""
        found: dict[str, list[Run]] = {}
        for run in self._runs[contestant]:
            if kind in (None, run.kind):
                found.setdefault(run.prompt, []).append(run)
        return found

    def speeds(self, contestant: Contestant, kind: str | None = None) -> dict[str, float]:
        """Tokens per second by prompt: the median of the repeats."""
        own = self.of(contestant, kind)
        return {prompt: median(run.tokens_per_second for run in runs) for prompt, runs in own.items()}

    def texts(self, contestant: Contestant) -> dict[str, list[int]]:
        """The first text of a contestant, by prompt."""
        return {prompt: runs[0].written.token_ids for prompt, runs in self.of(contestant).items()}

    def differing(self, one: Contestant, other: Contestant) -> list[str]:
        """Prompts for which two contestants wrote different texts."""
        texts = self.texts(other)
        return [prompt for prompt, ids in self.texts(one).items() if ids != texts[prompt]]

    def all(self, contestant: Contestant) -> list[Run]:
        """All runs of a contestant."""
        return list(self._runs[contestant])
