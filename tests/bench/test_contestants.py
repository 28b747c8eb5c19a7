"""The contestants, and what a report says about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptgc.bench import contestants
from ptgc.bench.contestants import Contestant, own_entrant
from ptgc.runtime.tuning import Tuning
from ptgc.spec.bundle import open_bundle
from tests.bench.checkpoints import checkpoint_bundle


@pytest.mark.parametrize(
    ("tuning", "applied"),
    [(None, 15), (Tuning(2, 4, (), {}), 4), (Tuning(2, 99, (), {}), 15)],
    ids=["not tuned", "tuned", "tuned for another plan"],
)
def test_a_report_says_how_many_drafts_a_round_has_at_most(
    tuning: Tuning | None, applied: int, bench_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(checkpoint_bundle(bench_place))
    monkeypatch.setattr(contestants, "read_tuning", lambda build, plan: tuning)
    entrant = own_entrant(bundle, bundle.build(), 2)
    assert entrant.facts["num_draft_tokens"] == applied
    assert entrant.is_own


def test_contestants_are_named_by_engine_mode_and_precision() -> None:
    assert Contestant("ptgc", "ngram", "int8").name == "ptgc ngram int8"
    assert Contestant("autoregressive", "plain", "int8").name == "autoregressive int8"
    assert not Contestant("transformers", "plain", "float32").is_own
