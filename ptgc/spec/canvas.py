"""CanvasPlan: how the masked positions of a canvas are filled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Annotated, Any

from ptgc.spec.fields import Range, TokenId
from ptgc.spec.limits import MAX_DRAFT_STEPS, MAX_LENGTH, MAX_ROUNDS, MAX_THRESHOLD

CacheInterval = Annotated[int, Range(2, MAX_ROUNDS)]
"""Rounds after which a cache is renewed."""


class CanvasCache(str, Enum):
    """What a denoiser keeps of a canvas between rounds."""

    NONE = "none"
    """Nothing: every round reads the whole canvas."""
    BLOCK = "block"
    """Keys and values of the blocks before the one that is being filled. These blocks see nothing behind them, so they
    no longer change (BD3-LM, arXiv 2503.09573; Fast-dLLM v2, arXiv 2509.26328). Blocks begin at multiples of the block
    length."""
    PREFIX = "prefix"
    """Approximately, those of the positions before a block, as the block's first round computed them; later rounds of
    the block read what follows (Fast-dLLM, arXiv 2505.22618, section 3.2)."""
    DUAL = "dual"
    """Approximately, also those of the positions behind the block; later rounds read the block only (Fast-dLLM)."""
    DELAYED = "delayed"
    """Approximately, those of every token from the round after the one that filled it; rounds read what was filled last
    and what is masked, and every `cache_interval` of them all positions (dKV-Cache, arXiv 2505.15781)."""


class PolicyKind(str, Enum):
    """Which masked positions a round fills first, and what its threshold adds."""

    CONFIDENCE = "confidence"
    """The most probable tokens first (MaskGIT, arXiv 2202.04200); also all above the threshold (Fast-dLLM, arXiv
    2505.22618, section 3.3)."""
    FACTOR = "factor"
    """The most probable tokens first; also the one of rank r (from 0) if its probability p satisfies (r + 2)(1 - p) <
    threshold (Fast-dLLM, section 3.3)."""
    ENTROPY = "entropy"
    """The lowest entropy first; also all for which the entropies of those before add up to less than the threshold
    (EB-Sampler, arXiv 2505.24857)."""
    MARGIN = "margin"
    """The largest difference between the two likeliest tokens first (arXiv 2502.06768); also all above the
    threshold."""
    RANDOM = "random"
    """In random order (LLaDA, arXiv 2502.09992)."""
    SEQUENTIAL = "sequential"
    """From the first to the last."""
    OWN = "own"
    """In the order of a module's scores, which is a part of the denoiser's graph; also what the module adds."""


class ConfidenceOf(str, Enum):
    """The probabilities that a policy ranks by."""

    MODEL = "model"
    """The model's own, whatever the temperature (LLaDA)."""
    SAMPLED = "sampled"
    """Those after the temperature, which tokens are sampled from (Dream, arXiv 2508.15487; SDAR, arXiv 2510.06303)."""


class Schedule(str, Enum):
    """How many positions each round of a block must fill."""

    LINEAR = "linear"
    """An equal share of those still masked (LLaDA)."""
    COSINE = "cosine"
    """Few at first: after round i of n, cos(pi i / 2n) of them stay masked. At least one is filled (MaskGIT)."""
    PER_BLOCK = "per-block"
    """An equal share of a whole block, however many positions are masked (SDAR); num_steps counts a block's rounds."""


class CanvasStop(str, Enum):
    """What ends a text before all its positions are filled."""

    BLOCK = "block"
    """An end token in a finished block."""
    EOS = "eos"
    """An end token with no masked position before it (Fast-dLLM v2, LLaDA2)."""


@dataclass(frozen=True)
class Thresholds:
    """The thresholds that a kind of policy takes."""

    most: float
    """The largest; the smallest is 0."""
    none: float
    """The threshold that adds no position."""


THRESHOLDS = {
    PolicyKind.CONFIDENCE: Thresholds(1, 1),
    PolicyKind.FACTOR: Thresholds(MAX_THRESHOLD, 0),
    PolicyKind.ENTROPY: Thresholds(MAX_THRESHOLD, 0),
    PolicyKind.MARGIN: Thresholds(1, 1),
    PolicyKind.OWN: Thresholds(MAX_THRESHOLD, 1),
}
"""The policies that have a threshold."""


@dataclass(frozen=True)
class PolicyPlan:
    """How the denoiser's graph chooses positions and their tokens."""

    kind: PolicyKind = PolicyKind.CONFIDENCE
    """Which positions come first."""
    threshold: float | None = None
    """Positions that a round fills in addition to those that it must fill; None for none."""
    sampled: bool = False
    """Whether the graph can sample tokens: it then has the inputs temperature and uniforms."""
    confidence_of: ConfidenceOf = ConfidenceOf.MODEL
    """The probabilities that positions are ranked by."""

    @property
    def bound(self) -> float:
        """The threshold as the graph takes it, if this kind has any."""
        return THRESHOLDS[self.kind].none if self.threshold is None else self.threshold

    @property
    def draws(self) -> bool:
        """Whether the graph takes random numbers."""
        return self.sampled or self.kind is PolicyKind.RANDOM

    def to_json(self) -> dict[str, Any]:
        """This policy as the manifest writes it."""
        return asdict(self) | {"kind": self.kind.value, "confidence_of": self.confidence_of.value}

    def problems(self) -> list[str]:
        """A threshold that this kind does not have, or out of its range."""
        known = THRESHOLDS.get(self.kind)
        if self.threshold is None or (known is not None and 0 <= self.threshold <= known.most):
            return []
        wanted = "null" if known is None else f"from 0 to {known.most:g}"
        return [f"threshold is {self.threshold:g}; with the policy {self.kind.value} it must be {wanted}"]


@dataclass(frozen=True)
class CanvasPlan:
    """The policies of the canvas loop; which positions a round fills is traced into the denoiser's graph."""

    mask_token_id: TokenId
    """Marks a position that is still to be filled."""
    num_steps: Annotated[int, Range(1, MAX_ROUNDS)]
    """Most rounds for a whole canvas, or with the schedule `per-block` for a block."""
    block_length: Annotated[int, Range(0, MAX_LENGTH)] = 0
    """Positions that are filled and delivered before the next ones are started; 0 for all at once."""
    policy: PolicyPlan = PolicyPlan()
    """How positions and their tokens are chosen."""
    cache: CanvasCache = CanvasCache.NONE
    """What is kept between rounds."""
    cache_interval: CacheInterval = 8
    """delayed: of so many rounds, the first reads all positions (8 is dKV-Cache's choice for LLaDA)."""
    shift: bool = False
    """Whether a position is predicted by the row before it, as in models that were causal before (Dream, arXiv
    2508.15487); the first position of a text is predicted by its own."""
    schedule: Schedule = Schedule.LINEAR
    """How many positions a round must fill."""
    stop: CanvasStop = CanvasStop.BLOCK
    """What ends a text early."""
    num_draft_steps: Annotated[int, Range(0, MAX_DRAFT_STEPS)] = 0
    """Steps that are drafted from the predictions of a run and verified by the next one, in as many further rows for
    each text (SSD, arXiv 2510.04147). The text is that of filling step by step."""

    @property
    def approximates(self) -> bool:
        """Whether keys and values are kept that the model would compute anew, with other results."""
        return self.cache not in (CanvasCache.NONE, CanvasCache.BLOCK)

    @property
    def keeps_blocks(self) -> bool:
        """Whether positions see only their own block and those before it, which are kept."""
        return self.cache is CanvasCache.BLOCK

    def describe(self) -> str:
        """These policies in words."""
        policy, of_what = self.policy, "a block" if self.schedule is Schedule.PER_BLOCK else "a canvas"
        threshold = f", threshold {policy.threshold:g}" if policy.threshold is not None else ""
        blocks = f", blocks of {self.block_length}" if self.block_length else ""
        sampled = ", samples" if policy.sampled else ""
        rounds = f"up to {self.num_steps} rounds for {of_what}"
        drafts = f", {self.num_draft_steps} steps drafted" if self.num_draft_steps else ""
        every = f" for {self.cache_interval} rounds" if self.cache is CanvasCache.DELAYED else ""
        cache = f"; {self.cache.value} cache{every}, which approximates" if self.approximates else ""
        return f"{policy.kind.value}{threshold}{sampled}; {self.schedule.value}, {rounds}{blocks}{drafts}{cache}"

    def to_json(self) -> dict[str, Any]:
        """These policies as the manifest writes them."""
        return asdict(self) | {
            "policy": self.policy.to_json(),
            "cache": self.cache.value,
            "schedule": self.schedule.value,
            "stop": self.stop.value,
        }

    def problems(self) -> list[str]:
        """What needs a block length without one, and rows that predict what lies behind their block."""
        found = []
        if self.block_length == 0 and self.keeps_blocks:
            found.append("block_length is 0; cache is block, which needs a length")
        if self.block_length == 0 and self.cache is CanvasCache.DUAL:
            found.append("block_length is 0; cache is dual, which needs a length")
        if self.block_length == 0 and self.schedule is Schedule.PER_BLOCK:
            found.append("block_length is 0; schedule is per-block, which needs a length")
        if self.shift and self.keeps_blocks:
            found.append("shift is true; cache is block, whose rows predict their own positions")
        if self.num_draft_steps and self.cache is not CanvasCache.NONE:
            steps, cache = self.num_draft_steps, self.cache.value
            found.append(f"num_draft_steps is {steps}; cache is {cache}, with which no steps are drafted")
        return found
