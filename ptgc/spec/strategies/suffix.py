"""suffix: drafts what followed the longest suffix of the text where it occurred before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_NGRAM_SIZE
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, Strategy
from ptgc.spec.tree import TreeSpec

MatchLength = Annotated[int, Range(1, MAX_NGRAM_SIZE)]
"""Tokens of a suffix that occurred before."""
DraftsPerMatch = Annotated[float, Range(0, 64)]
"""Draft tokens for each token of such a suffix."""
Probability = Annotated[float, Range(0, 1)]
"""A share of the earlier occurrences."""


@dataclass(frozen=True)
class SuffixDrafter(DrafterPlan):
    """Continues the longest suffix of the text that occurred before, however long it is."""

    kind: ClassVar[str] = "suffix"

    min_match_length: MatchLength = 1
    """The shortest suffix that is continued."""
    drafts_per_match: DraftsPerMatch = 15.0
    """Most draft tokens for each token of the suffix."""
    min_probability: Probability = 0.05
    """Drafts end where fewer of the suffix's occurrences went on like this."""


@dataclass(frozen=True)
class SuffixOptions:
    """Which suffixes are continued, and how far."""

    num_draft_tokens: DraftTokens = 15
    """Most draft tokens per round."""
    min_match_length: MatchLength = SuffixDrafter.min_match_length
    """Shortest suffix of the text that is continued, in tokens."""
    drafts_per_match: DraftsPerMatch = SuffixDrafter.drafts_per_match
    """Most draft tokens for each token of the suffix."""
    min_probability: Probability = SuffixDrafter.min_probability
    """Drafts end where less than this share of the suffix's occurrences went on like this."""


def suffix(
    num_draft_tokens: int = SuffixOptions.num_draft_tokens,
    min_match_length: int = SuffixOptions.min_match_length,
    drafts_per_match: float = SuffixOptions.drafts_per_match,
    min_probability: float = SuffixOptions.min_probability,
) -> DecodePlan:
    """The likeliest continuation of the longest suffix of the text that occurred before."""
    drafter = SuffixDrafter(num_draft_tokens, min_match_length, drafts_per_match, min_probability)
    return DecodePlan(STRATEGY.name, drafter=drafter, tree=TreeSpec.chain(num_draft_tokens))


def _plan(options: SuffixOptions, _facts: CheckpointFacts) -> DecodePlan:
    return suffix(options.num_draft_tokens, options.min_match_length, options.drafts_per_match, options.min_probability)


STRATEGY = Strategy(
    name="suffix",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Drafts continue the longest suffix of the text that occurred before, however long it is.",
    source="SuffixDecoding, arXiv 2411.04975, section 3; SAM-Decoding, arXiv 2411.10666, section 3",
    options=SuffixOptions,
    plan=_plan,
    drafter=SuffixDrafter,
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
