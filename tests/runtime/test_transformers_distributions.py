"""The distributions stored for the C++ tests are those of the installed transformers."""

from __future__ import annotations

import json

import pytest

from tests.runtime.transformers_distributions import PATH, distributions


def test_committed_distributions_are_what_transformers_computes() -> None:
    committed = json.loads(PATH.read_text())
    computed = distributions()
    assert [case["options"] for case in committed] == [case["options"] for case in computed]
    for ours, theirs in zip(committed, computed, strict=True):
        assert ours["logits"] == theirs["logits"]
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], rel=1e-5, abs=1e-9)
