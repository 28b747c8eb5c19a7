"""Sampled texts have the target's distribution, however they are drafted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.sampled_texts import PART, Setting, chi_square, count_texts, probabilities

SETTINGS = [
    Setting("autoregressive", batch=4),
    Setting("ngram", "match", 1.3),
    Setting("ngram", "speculative", 0.7, batch=4),
    Setting("ngram", "block", 1.0),
    Setting("draft-model", "match", 0.7, batch=4),
    Setting("draft-model", "speculative", 0.7, "measured"),
    Setting("draft-model", "speculative", 1.3, batch=4),
    Setting("draft-model", "block", 1.3, batch=4),
    Setting("overlap", "speculative", 0.7, batch=4),
    Setting("tree", "match", 1.0, batch=4),
    Setting("tree", "speculative", 0.7, "measured"),
    Setting("tree", "speculative", 1.3, batch=4),
    Setting("dynamic", "match", 1.0, "measured"),
    Setting("dynamic", "speculative", 0.7, "measured", batch=4),
    Setting("dynamic-pard", "speculative", 1.3, batch=4),
    Setting("layer-skip", "match", 1.3),
    Setting("layer-skip", "block", 1.0, batch=4),
    Setting("medusa-tree", "speculative", 0.7),
    Setting("hydra", "match", 1.3, batch=4),
    Setting("eagle3", "match", 1.3, "measured"),
    Setting("eagle3-tree", "speculative", 1.0, batch=4),
    Setting("tree", "speculative", 1.3, batch=4, part=PART),
    Setting("eagle3-tree", "speculative", 0.7, batch=4, part=PART),
    Setting("medusa-tree", "speculative", 1.0, part=PART),
    Setting("dflash", "speculative", 1.0),
    Setting("pard-tree", "speculative", 0.7, batch=4),
    Setting("recycling", "speculative", 1.0, batch=4),
    Setting("jacobi", "speculative", 1.3),
    Setting("lookahead", "speculative", 0.7),
    Setting("suffix", "block", 1.0, batch=4),
    Setting("merged", "speculative", 0.7, batch=4),
]
"""A few of `all_settings`; the full comparison of 50,000 texts each is run by hand."""


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_texts_have_the_distribution_of_the_target(setting: Setting, place: Path) -> None:
    counts, drafts = count_texts(place, setting, 6000)
    assert chi_square(counts, probabilities(setting.temperature, setting.plain_tokens)) > 1e-4
    if setting.strategy != "autoregressive":
        assert 0 < drafts.kept < drafts.verified
    assert (drafts.ahead > 500) == (setting.strategy == "overlap")


def test_another_distribution_is_told_apart(place: Path) -> None:
    counts, _ = count_texts(place, Setting("autoregressive", batch=4), 6000)
    assert chi_square(counts, probabilities(1.2)) < 1e-6
