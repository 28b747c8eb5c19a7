"""datastore: drafts what followed the end of the text where it occurs in a datastore of other texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.fields import Range
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, Strategy
from ptgc.spec.tree import TreeSpec

MatchLength = Annotated[int, Range(1, 32)]
"""Tokens at the end of the text that occur in the datastore."""


@dataclass(frozen=True)
class DatastoreDrafter(DrafterPlan):
    """Continues the longest end of the text that occurs in a datastore, which is given when a build is loaded.

    It drafts chains if the plan's tree is one, else trees of its own shape, as large as the plan's.
    """

    kind: ClassVar[str] = "datastore"

    max_match_length: MatchLength = 16
    """The longest end of the text that is looked up."""
    min_match_length: MatchLength = 2
    """The shortest one."""

    def problems(self) -> list[str]:
        """Lengths that contradict each other."""
        if self.max_match_length >= self.min_match_length:
            return []
        return ["max_match_length is below min_match_length: match lengths are out of order"]


@dataclass(frozen=True)
class DatastoreOptions:
    """Which ends of the text are looked up, and what is drafted."""

    num_draft_tokens: DraftTokens = 15
    """Most draft tokens per round."""
    max_match_length: MatchLength = DatastoreDrafter.max_match_length
    """Longest end of the text that is looked up, in tokens."""
    min_match_length: MatchLength = DatastoreDrafter.min_match_length
    """Shortest end of the text that is looked up, in tokens."""
    branching: bool = False
    """Draft a tree of several continuations, in place of the most frequent one."""

    def problems(self) -> list[str]:
        """Lengths that contradict each other."""
        if self.max_match_length >= self.min_match_length:
            return []
        return [
            f"--max-match-length is {self.max_match_length}, below --min-match-length, which is "
            f"{self.min_match_length}."
        ]


def datastore(
    num_draft_tokens: int = DatastoreOptions.num_draft_tokens,
    max_match_length: int = DatastoreOptions.max_match_length,
    min_match_length: int = DatastoreOptions.min_match_length,
    *,
    branching: bool = DatastoreOptions.branching,
) -> DecodePlan:
    """The most frequent continuation, in a datastore, of the longest end of the text that occurs there."""
    drafter = DatastoreDrafter(num_draft_tokens, max_match_length, min_match_length)
    tree = _two_chains(num_draft_tokens) if branching else TreeSpec.chain(num_draft_tokens)
    return DecodePlan(STRATEGY.name, drafter=drafter, tree=tree)


def _two_chains(num_draft_tokens: int) -> TreeSpec:
    """A tree that is no chain and makes room for so many drafts, whatever the shape of theirs."""
    return TreeSpec((-1, 0, *range(num_draft_tokens - 1)))


def _plan(options: DatastoreOptions, _facts: CheckpointFacts) -> DecodePlan:
    return datastore(
        options.num_draft_tokens, options.max_match_length, options.min_match_length, branching=options.branching
    )


STRATEGY = Strategy(
    name="datastore",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Drafts continue the end of the text as it goes on in a datastore of texts (ptgc datastore).",
    source="REST, He et al., arXiv 2311.08252, section 3",
    options=DatastoreOptions,
    plan=_plan,
    drafter=DatastoreDrafter,
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
