"""Drafters that are merged: what looks up earlier text before a model that drafts where nothing is found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated, Any, ClassVar

from ptgc.spec.drafter import DrafterPlan, OneRunDrafter
from ptgc.spec.fields import Count
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.datastore import DatastoreDrafter
from ptgc.spec.strategies.ngram import NgramDrafter
from ptgc.spec.strategies.suffix import SuffixDrafter

MAX_DRAFTERS = 8
"""Drafters that are merged."""
_ALONE = ("none", "merged", "lookahead", "jacobi")
"""Kinds that cannot be merged, beside those that draft in one run or read the target's likeliest tokens."""


@dataclass(frozen=True)
class MergedDrafter(DrafterPlan):
    """Several drafters, one of which drafts for a row in each round: the one that promises the most tokens per second.

    Each has its own parameters and number of drafts, and its drafts are the first nodes of the plan's tree. Without
    regard to costs, the first that finds anything drafts.
    """

    kind: ClassVar[str] = "merged"

    drafters: Annotated[tuple[DrafterPlan, ...], Count(2, MAX_DRAFTERS)] = field(kw_only=True)
    """In the order in which they are asked; only the last may run roles."""

    def __post_init__(self) -> None:
        # They need what the last of them needs; for other kinds these belong to the class.
        for name in ("roles", "taps", "is_part_of_target"):
            object.__setattr__(self, name, getattr(self.drafters[-1], name))

    def problems(self) -> list[str]:
        """Drafters that cannot be merged."""
        most = max((one.num_draft_tokens for one in self.drafters), default=0)
        found = [
            f"drafters[{place}] is of kind '{one.kind}', which cannot be merged"
            for place, one in enumerate(self.drafters)
            if one.kind in _ALONE or isinstance(one, OneRunDrafter) or one.num_top_ids
        ]
        found += [
            f"drafters[{place}] is of kind '{one.kind}', which runs a model; it must be the last"
            for place, one in enumerate(self.drafters[:-1])
            if one.roles
        ]
        if self.num_draft_tokens != most:
            found.append(f"num_draft_tokens is {self.num_draft_tokens}; the most of the merged drafters is {most}")
        return found

    @property
    def rows_at_once(self) -> int:
        """Those of the last drafter, the only one that may run a model."""
        return self.drafters[-1].rows_at_once

    @property
    def parts(self) -> tuple[DrafterPlan, ...]:
        """See DrafterPlan."""
        return self.drafters

    @property
    def alternatives(self) -> tuple[str, ...]:
        """See DrafterPlan."""
        return self.parts[-1].alternatives

    def describe(self, role: str) -> str:
        """See DrafterPlan."""
        return self.parts[-1].describe(role)

    @property
    def reencodes(self) -> bool:
        """See DrafterPlan."""
        return self.parts[-1].reencodes

    def to_json(self) -> dict[str, Any]:
        """See DrafterPlan."""
        return super().to_json() | {"drafters": [one.to_json() for one in self.drafters]}


class Lookup(str, Enum):
    """What drafts in place of a model where it finds the end of the text, earlier in it or in a datastore."""

    NONE = "none"
    """Nothing: the model always drafts."""
    NGRAM = "ngram"
    """See the strategy ngram."""
    SUFFIX = "suffix"
    """See the strategy suffix."""
    DATASTORE = "datastore"
    """See the strategy datastore."""


_DRAFTS = 15  # of a lookup; those of a model cost a run each
_SHORTEST = 3  # fewer tokens are no reason to do without a model
_LOOKUPS: dict[Lookup, DrafterPlan] = {
    Lookup.NGRAM: NgramDrafter(_DRAFTS, min_ngram_size=_SHORTEST),
    Lookup.SUFFIX: SuffixDrafter(_DRAFTS, min_match_length=_SHORTEST),
    Lookup.DATASTORE: DatastoreDrafter(_DRAFTS, min_match_length=_SHORTEST),
}


def with_lookup(plan: DecodePlan, lookup: Lookup) -> DecodePlan:
    """A plan with a lookup before its own drafter."""
    if lookup is Lookup.NONE:
        return plan
    drafters = (_LOOKUPS[lookup], plan.drafter)
    most = max(one.num_draft_tokens for one in drafters)
    return replace(plan, drafter=MergedDrafter(most, drafters=drafters), tree=plan.tree.extended(most))
