"""Texts longer than a window, from quantised models: the same alone and in batches, with and without drafts."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export
from ptgc.runtime import Generator
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.draft_model import draft_model
from tests.bundles import tiny_bundle
from tests.models import prompt, tiny_model
from tests.shared import worker_copy

CASES = [(family, "ngram", precision) for family in ("gemma2", "gemma3", "mistral") for precision in ("int8", "int4")]
CASES += [("gemma3", strategy, "int4") for strategy in ("draft-model", "overlap")]
NEW_TOKENS = 32
SLOTS = 279  # of a cache for a window of 24 tokens
# Their texts pass the end of that cache at different times, while other prompts are read.
PROMPTS = [(prompt(length // 2, length) * 3)[:length] for length in range(240, 288, 4)]


@cache
def _bundle(place: Path, family: str, strategy: str) -> Path:
    if strategy == "ngram":
        return tiny_bundle(place, family)
    if strategy == "autoregressive":
        return tiny_bundle(place, family, autoregressive())
    roles = {"target": tiny_model(family), "drafter": _disturbed(tiny_model(family))}
    return worker_copy(place, f"{family}-drafts", lambda path: export(roles, draft_model(4, overlap=True), path))


def _disturbed(target: Any) -> Any:
    """A drafter that is right more often than not."""
    model = copy.deepcopy(target)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * parameter.std() * 0.02)
    return model


def _generator(place: Path, family: str, strategy: str, precision: str, batch: int) -> Generator:
    overlap = strategy == "overlap"
    bundle = _bundle(place, family, "draft-model" if overlap else strategy)
    name = f"windows-{precision}-{batch}"
    options = BuildOptions(
        precision=precision, batch_size=batch, max_length=512, stage=Stage.PREPARE, build_id=name, replace=True
    )
    assert build(bundle, options).manifest.shapes.roles["target"].window_capacities == {24: SLOTS}
    return Generator(bundle, build=name, draft_length="fixed", overlap=overlap)


def _alone(generator: Generator, *, plain: bool) -> list[list[int]]:
    return [generator.generate(ids, max_new_tokens=NEW_TOKENS, plain=plain).token_ids for ids in PROMPTS]


def _together(generator: Generator, *, plain: bool) -> list[list[int]]:
    return [result.token_ids for result in generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS, plain=plain)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("family", "strategy", "precision"), CASES)
def test_texts_past_a_window_are_those_of_plain_decoding_alone(
    family: str, strategy: str, precision: str, batch: int, place: Path
) -> None:
    with _generator(place, family, strategy, precision, batch) as generator:
        alone = _alone(generator, plain=True)
        assert _together(generator, plain=False) == alone
        if batch > 1:
            assert _together(generator, plain=True) == alone


def test_neighbours_change_no_text_of_a_build_that_does_not_speculate(place: Path) -> None:
    with _generator(place, "mistral", "autoregressive", "int4", 3) as generator:
        assert _together(generator, plain=True) == _alone(generator, plain=True)


def test_a_session_goes_back_behind_what_slid(place: Path) -> None:
    ids = PROMPTS[-1]
    with _generator(place, "gemma3", "ngram", "int8", 1) as generator, generator.session() as session:
        session.append(ids)
        text = session.generate(max_new_tokens=NEW_TOKENS).token_ids
        session.rewind(len(ids) + NEW_TOKENS - 1)
        session.append(ids[1:])
        assert session.generate(max_new_tokens=NEW_TOKENS).token_ids == text
