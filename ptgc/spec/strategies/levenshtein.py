"""levenshtein: tokens are deleted, placeholders inserted and filled, until nothing changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ptgc.spec.edit import EditPlan
from ptgc.spec.fields import Range, TokenId
from ptgc.spec.limits import MAX_ROUNDS
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy


@dataclass(frozen=True)
class LevenshteinOptions:
    """The special tokens of the model, and when a text ends."""

    placeholder_token_id: TokenId
    """Stands where a token was inserted and is still to be chosen."""
    bos_token_id: TokenId
    """The first token of every canvas."""
    eos_token_id: TokenId
    """The last token of every canvas."""
    pad_token_id: TokenId
    """Fills a canvas behind its end."""
    max_rounds: Annotated[int, Range(1, MAX_ROUNDS)] = 10
    """Rounds after which a text ends as it is."""


def levenshtein(
    placeholder_token_id: int, bos_token_id: int, eos_token_id: int, pad_token_id: int, max_rounds: int = 10
) -> DecodePlan:
    """Tokens are deleted, placeholders inserted and filled, until nothing changes."""
    edit = EditPlan(max_rounds, placeholder_token_id, bos_token_id, eos_token_id, pad_token_id)
    return DecodePlan(STRATEGY.name, STRATEGY.loop, STRATEGY.guarantee, edit=edit)


def _plan(options: LevenshteinOptions, _facts: CheckpointFacts) -> DecodePlan:
    return levenshtein(
        options.placeholder_token_id,
        options.bos_token_id,
        options.eos_token_id,
        options.pad_token_id,
        options.max_rounds,
    )


STRATEGY = Strategy(
    name="levenshtein",
    loop=Loop.EDIT,
    guarantee=Guarantee.LOSSY,
    summary="Tokens are deleted, placeholders inserted and filled, until nothing changes.",
    source="Gu et al., arXiv 1905.11006, section 3",
    options=LevenshteinOptions,
    plan=_plan,
)
