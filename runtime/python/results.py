"""What generating gives back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Statistics:
    """What happened while one text was written. Times are seconds of wall clock."""

    prompt_tokens: int
    """Tokens of the prompt."""
    new_tokens: int
    """Tokens written."""
    rounds: int
    """Rounds after the first new token, which ends prefill."""
    plain_rounds: int
    """Rounds without draft tokens."""
    fallback_reason: str | None
    """Why more rounds declined their drafts than took them; None where they did not."""
    drafted_tokens: int
    """Draft tokens that the target verified."""
    accepted_tokens: int
    """Draft tokens that it kept."""
    mean_accept_length: float
    """New tokens for each round of decoding."""
    load_seconds: float
    """Loading the build."""
    time_to_first_token: float
    """From the call to the first new token."""
    prefill_seconds: float
    """Until the prompt was in the cache."""
    decode_seconds: float
    """From then to the end."""
    engine_seconds: float
    """Inside engine calls, part of decode_seconds."""
    draft_seconds: float
    """Drafting, part of decode_seconds; starting it, where nobody waits."""
    tokens_per_second: float
    """Of decoding."""
    peak_memory_bytes: int
    """Largest resident memory of the process so far."""
    graph_launches: int = 0
    """Engine runs on a device that were one captured graph, in decode rounds; rows of a batch count each other's."""
    uncaptured_runs: int = 0
    """Those that were queued piece by piece: the first of every shape, and all where it cannot be captured."""
    synchronisations: int = 0
    """Waits of the host for the device, in decode rounds."""


@dataclass(frozen=True)
class RoundTrace:
    """One round, for `run --trace`."""

    width: int
    """Rows of the round."""
    drafted_ids: list[int]
    """Draft tokens verified."""
    accepted: int
    """How many of them were kept."""
    emitted_ids: list[int]
    """Tokens written."""
    engine_seconds: float
    """Inside engines."""
    draft_seconds: float
    """Drafting, engine calls included."""
    round_seconds: float
    """The whole round."""


@dataclass(frozen=True)
class GenerationResult:
    """One text."""

    text: str
    """The new text; empty where the bundle has no tokenizer."""
    token_ids: list[int]
    """The new token ids."""
    finish_reason: str
    """eos, length, stop, cancelled or deadline."""
    strategy: str
    """How it was generated."""
    lossless: bool
    """Whether it is what plain decoding of this build gives."""
    build: str
    """Which build."""
    seed: int | None
    """What the randomness of a sampled text came from; None for greedy decoding."""
    statistics: Statistics
    """What happened."""
    trace: list[RoundTrace] = field(default_factory=list)
    """Round by round, where it was asked for."""

    def to_json(self) -> dict[str, Any]:
        """The object that `ptgc run --json` prints."""
        return {
            "text": self.text,
            "token_ids": self.token_ids,
            "finish_reason": self.finish_reason,
            "strategy": self.strategy,
            "lossless": self.lossless,
            "build": self.build,
            "seed": self.seed,
            "stats": asdict(self.statistics),
        }


@dataclass(frozen=True)
class Chunk:
    """A piece of a text while it is being written."""

    text: str
    """What can be shown: whole characters, and nothing that may yet turn into a stop string."""
    token_ids: list[int]
    """The tokens of this round."""
    result: GenerationResult | None = None
    """The whole, with the last chunk."""
