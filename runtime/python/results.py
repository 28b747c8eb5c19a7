"""The results of generating text."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class DraftCount:
    """How drafts of one place in their trees fared."""

    depth: int
    """1 for the tokens right after the text."""
    rank: int
    """Among its siblings, from 0; a chain has rank 0 alone."""
    tried: int
    """Drafts there whose parent was accepted."""
    accepted: int
    """How many of them were accepted."""


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
    """Why more rounds declined their drafts than verified them; None if they did not."""
    drafted_tokens: int
    """Draft tokens that the target verified. Rows that are run for their answers only, as in the window of lookahead,
    are none."""
    accepted_tokens: int
    """Draft tokens that it accepted."""
    draft_counts: list[DraftCount]
    """The same by depth and rank."""
    mean_accept_length: float
    """New tokens per decoding round."""
    load_seconds: float
    """Time to load the build."""
    time_to_first_token: float
    """Time from the call to the first new token."""
    prefill_seconds: float
    """Time until the prompt was in the cache."""
    decode_seconds: float
    """Time from then to the end."""
    engine_seconds: float
    """Time inside engine calls, part of decode_seconds."""
    draft_seconds: float
    """Time of drafting, part of decode_seconds; only of starting it if it is not waited for."""
    accept_seconds: float
    """Time of choosing tokens and accepting drafts, part of decode_seconds."""
    commit_seconds: float
    """Time of moving what was accepted, part of decode_seconds."""
    tokens_per_second: float
    """New tokens per second of decoding."""
    peak_memory_bytes: int
    """Largest resident memory of the process so far."""
    graph_launches: int = 0
    """Engine runs in decode rounds that were one captured graph of a device; rows of a batch share the count."""
    uncaptured_runs: int = 0
    """Engine runs that were queued piece by piece: the first of every shape, and all that cannot be captured."""
    synchronisations: int = 0
    """Waits of the host for the device, in decode rounds."""
    ahead_tokens: int = 0
    """Draft tokens made while the target verified others."""
    ahead_used_tokens: int = 0
    """How many of them were verified."""


@dataclass(frozen=True)
class RoundTrace:
    """One round, for `run --trace`."""

    width: int
    """Rows of the round."""
    drafted_ids: list[int]
    """Draft tokens verified; node i of their tree is number i - 1."""
    parents: list[int]
    """The node that each of them follows; 0 is the end of the text."""
    path: list[int]
    """The nodes that were accepted."""
    part: int
    """Which of merged drafters made them, by its place in the plan; 0 if there is only one."""
    accepted: int
    """How many of them became text: fewer where the text ended."""
    emitted_ids: list[int]
    """Tokens written."""
    engine_seconds: float
    """Time inside engines."""
    draft_seconds: float
    """Time of drafting, including engine calls."""
    accept_seconds: float
    """Time of choosing tokens and accepting drafts."""
    commit_seconds: float
    """Time of moving what was accepted."""
    round_seconds: float
    """Time of the whole round."""
    filled_positions: list[int] = field(default_factory=list)
    """Positions of a canvas that were filled, in ascending order."""
    filled_ids: list[int] = field(default_factory=list)
    """Their tokens."""
    confidences: list[float] = field(default_factory=list)
    """The probabilities that the model gave these."""
    is_ahead: bool = False
    """Whether its drafts were made while the target verified those of the round before."""


@dataclass(frozen=True)
class GenerationResult:
    """One text."""

    text: str
    """The new text; empty if the bundle has no tokenizer."""
    token_ids: list[int]
    """The new token ids."""
    finish_reason: str
    """eos, length, stop, cancelled or deadline."""
    strategy: str
    """The strategy that generated it."""
    lossless: bool
    """Whether it is what plain decoding with this build would give."""
    build: str
    """Name of the build."""
    seed: int | None
    """The seed of a sampled text; None for greedy decoding."""
    statistics: Statistics
    """Statistics of the text."""
    trace: list[RoundTrace] = field(default_factory=list)
    """What every round did, if requested."""

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
    """Text that can be shown: whole characters, and nothing that may still become a stop string."""
    token_ids: list[int]
    """The tokens of this round."""
    result: GenerationResult | None = None
    """The whole result, in the last chunk only."""
    filled_positions: list[int] = field(default_factory=list)
    """Positions of a canvas that a round filled, counted from the beginning of the prompt; if asked for with `fills`,
    such a chunk comes before the one with the text of this round."""
    filled_ids: list[int] = field(default_factory=list)
    """Their tokens."""
