"""ngram: drafts what followed an earlier occurrence of the text's last tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar

from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_NGRAM_SIZE
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, Strategy
from ptgc.spec.tree import TreeSpec

NgramSize = Annotated[int, Range(1, MAX_NGRAM_SIZE)]
"""Tokens of an n-gram."""


class NgramMatch(str, Enum):
    """Which of several matches of the same length is continued."""

    LATEST = "latest"
    """The most recent one; a continuation that reaches the end of the text repeats from its start."""
    FIRST = "first"
    """The earliest one, up to the end of the text, as in transformers' prompt lookup."""


@dataclass(frozen=True)
class NgramDrafter(DrafterPlan):
    """Proposes what followed the longest suffix of the text that occurs earlier in it."""

    kind: ClassVar[str] = "ngram"

    max_ngram_size: NgramSize = 8
    """The longest suffix of the text that is looked up, tried first."""
    min_ngram_size: NgramSize = 1
    """The shortest suffix that counts as a match."""
    ngram_match: NgramMatch = NgramMatch.LATEST
    """Which of several matches of the same length is continued."""

    def problems(self) -> list[str]:
        """Sizes out of order."""
        if self.min_ngram_size <= self.max_ngram_size:
            return []
        sizes = f"{self.min_ngram_size} to {self.max_ngram_size}"
        return [f"min_ngram_size to max_ngram_size is {sizes}; it must be an ascending range"]


@dataclass(frozen=True)
class NgramOptions:
    """How far n-grams are looked up and continued."""

    num_draft_tokens: DraftTokens = 15
    """Most draft tokens per round."""
    max_ngram_size: NgramSize = 8
    """Longest suffix of the text to look up, in tokens."""
    min_ngram_size: NgramSize = 1
    """Shortest suffix that counts as a match, in tokens."""

    def problems(self) -> list[str]:
        """Sizes out of order."""
        if self.min_ngram_size <= self.max_ngram_size:
            return []
        return [f"--max-ngram-size is {self.max_ngram_size}, below --min-ngram-size {self.min_ngram_size}."]


def ngram(
    num_draft_tokens: int = NgramOptions.num_draft_tokens,
    max_ngram_size: int = NgramOptions.max_ngram_size,
    min_ngram_size: int = NgramOptions.min_ngram_size,
    ngram_match: NgramMatch = NgramMatch.LATEST,
) -> DecodePlan:
    """Prompt lookup: the continuation of the longest earlier occurrence of the text's last tokens."""
    drafter = NgramDrafter(num_draft_tokens, max_ngram_size, min_ngram_size, ngram_match)
    return DecodePlan(STRATEGY.name, drafter=drafter, tree=TreeSpec.chain(num_draft_tokens))


def _plan(options: NgramOptions, _facts: CheckpointFacts) -> DecodePlan:
    return ngram(options.num_draft_tokens, options.max_ngram_size, options.min_ngram_size)


STRATEGY = Strategy(
    name="ngram",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Prompt lookup: drafts continue the longest earlier occurrence of the text's last tokens.",
    source='Saxena, "Prompt Lookup Decoding" (2023); LLMA, arXiv 2304.04487, section 3',
    options=NgramOptions,
    plan=_plan,
    drafter=NgramDrafter,
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
