"""levenshtein: tokens are deleted, placeholders inserted and filled, until nothing changes."""

from __future__ import annotations

from ptgc.spec.edit import EditPlan
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import Strategy


def levenshtein(
    placeholder_token_id: int, bos_token_id: int, eos_token_id: int, pad_token_id: int, max_rounds: int = 10
) -> DecodePlan:
    """Tokens are deleted, placeholders inserted and filled, until nothing changes."""
    operations = ("deleter", "inserter", "filler")
    edit = EditPlan(operations, max_rounds, bos_token_id, eos_token_id, pad_token_id, placeholder_token_id)
    return DecodePlan(STRATEGY.name, STRATEGY.loop, STRATEGY.guarantee, edit=edit)


STRATEGY = Strategy(
    name="levenshtein",
    loop=Loop.EDIT,
    guarantee=Guarantee.LOSSY,
    summary="Tokens are deleted, placeholders inserted and filled, until nothing changes.",
    source="Gu et al., arXiv 1905.11006, section 3",
)
