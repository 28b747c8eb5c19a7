"""Predicts the cost of a token from measured costs of rounds and acceptance rates of draft tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptgc.runtime.costs import CostCurve
from ptgc.spec.tree import TreeSpec

ASSUMED_ACCEPTANCE = 0.7
"""Acceptance rate of a draft token if none was measured: between what the runtime expects of short and of long
matches."""


@dataclass(frozen=True)
class Pace:
    """The best number of draft tokens at one acceptance rate."""

    num_draft_tokens: int
    """Draft tokens per round; 0 decodes plainly."""
    seconds: float
    """Seconds per token."""


def expected_tokens(num_draft_tokens: int, acceptance: float) -> float:
    """Expected new tokens of a round; each draft token is accepted with `acceptance` if those before it were.

    Source: Leviathan et al., arXiv 2211.17192, section 3.1, equation 1.
    """
    return sum(acceptance**position for position in range(num_draft_tokens + 1))


def round_seconds(
    curve: CostCurve,
    num_draft_tokens: int,
    rows_at_once: int = 0,
    *,
    tree: TreeSpec | None = None,
    runs_drafter: bool = True,
) -> float:
    """Seconds to draft and verify some tokens: the narrowest round that holds them, and the drafter's rounds.

    Args:
        curve: What rounds cost.
        num_draft_tokens: Draft tokens of the round.
        rows_at_once: Rows of a drafter's round that makes all drafts; 0 if it has a round for each depth.
        tree: The tree whose first nodes the drafts are; None for a chain.
        runs_drafter: Whether a model drafts, if there is one, and not a lookup that is merged with it.
    """
    drafter = curve.medians_by_role().get("drafter", {}) if runs_drafter else {}
    drafting = num_draft_tokens * next(iter(drafter.values()), 0.0)
    if rows_at_once and drafter:
        drafting = _at_least(drafter, rows_at_once) if num_draft_tokens else 0.0
    elif tree is not None and drafter:
        depths = Counter(tree.first(num_draft_tokens).depths)
        drafting = sum(_at_least(drafter, nodes) for depth, nodes in depths.items() if depth < max(depths))
    return _at_least(curve.medians(), num_draft_tokens + 1) + drafting


def predicted_speedups(
    curve: CostCurve,
    most: int,
    acceptance: float | Sequence[float],
    rows_at_once: int = 0,
    tree: TreeSpec | None = None,
) -> list[float]:
    """Speedup over plain decoding of rounds that draft 0, 1, ... `most` tokens.

    Args:
        curve: What rounds cost.
        most: Most draft tokens of a round.
        acceptance: The probability that a draft token is accepted if those before it were; or the shares of rounds that
            accept one or more tokens, two or more, and so on; or of a tree, the probability of each of its nodes.
        rows_at_once: See `round_seconds`.
        tree: See `round_seconds`.
    """
    plain = round_seconds(curve, 0)

    def tokens(number: int) -> float:
        if isinstance(acceptance, Sequence):
            return 1 + sum(acceptance[:number])
        return expected_tokens(number, acceptance)

    return [
        tokens(number) * plain / round_seconds(curve, number, rows_at_once, tree=tree) for number in range(most + 1)
    ]


def best_pace(curve: CostCurve, most: int, acceptance: float = ASSUMED_ACCEPTANCE, rows_at_once: int = 0) -> Pace:
    """The number of draft tokens, up to `most`, with the fewest seconds per token; see `round_seconds`."""
    paces = [
        Pace(number, round_seconds(curve, number, rows_at_once) / expected_tokens(number, acceptance))
        for number in range(most + 1)
    ]
    return min(paces, key=lambda pace: pace.seconds)


def _at_least(seconds: Mapping[int, float], rows: int) -> float:
    """Seconds of the narrowest width that holds `rows` rows, or of the widest if none does."""
    fitting = [width for width in seconds if width >= rows]
    return seconds[min(fitting) if fitting else max(seconds)]
