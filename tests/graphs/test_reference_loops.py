"""The rules of greedy texts in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ptgc.graphs.reference_loops import accepts
from ptgc.spec.acceptance import AcceptanceRule, RelaxedAcceptance, TypicalAcceptance
from ptgc.spec.strategies.draft_model import draft_model

ROW = np.log(np.array([0.5, 0.25, 0.15, 0.08, 0.02], np.float32))
"""Logits of entropy 1.258: exp(-H) is 0.284."""


def accepted(rule: AcceptanceRule, slack: float = 0.0, **parameters: Any) -> list[int]:
    plan = draft_model().accepting(rule, **parameters)
    return [token for token in range(5) if accepts(plan, ROW + 3, token, slack)]


@pytest.mark.parametrize(
    ("parameters", "tokens"),
    [
        (TypicalAcceptance(), [0, 1, 2]),
        (TypicalAcceptance(0.16, 0.55), [0, 1]),
        (TypicalAcceptance(0.9, 0.1), [0, 1, 2, 3]),
        (TypicalAcceptance(1.0, 1.0), [0]),
        (TypicalAcceptance(0.0, 0.0), [0, 1, 2, 3, 4]),
    ],
)
def test_typical_drafts_are_likely_for_their_entropy(parameters: TypicalAcceptance, tokens: list[int]) -> None:
    assert accepted(AcceptanceRule.TYPICAL, typical=parameters) == tokens


@pytest.mark.parametrize(
    ("parameters", "tokens"),
    [
        (RelaxedAcceptance(), [0]),
        (RelaxedAcceptance(5, 0.7), [0, 1]),
        (RelaxedAcceptance(2, 5.0), [0, 1]),
        (RelaxedAcceptance(1, 5.0), [0]),
        (RelaxedAcceptance(5, 2.0), [0, 1, 2, 3]),
    ],
)
def test_relaxed_drafts_are_near_the_best(parameters: RelaxedAcceptance, tokens: list[int]) -> None:
    assert accepted(AcceptanceRule.RELAXED, relaxed=parameters) == tokens


def test_lossless_rules_accept_the_best_alone_up_to_rounding() -> None:
    assert accepted(AcceptanceRule.MATCH) == [0]
    assert accepted(AcceptanceRule.BLOCK, slack=0.7) == [0, 1]
