"""The runtime writes the same text as transformers, family by family."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from tests.bundles import build_id, tiny_build
from tests.models import FAMILIES, MORE_FAMILIES, greedy, prompt, tiny_model

NEW_TOKENS = 64
# One prompt of a single token, one longer than two prefill chunks of 128, and ragged ones between.
LENGTHS = (1, 5, 40, 300)
SHORT_LENGTHS = (5, 40)
WINDOWED = ("gemma2", "gemma3", "cohere2", "starcoder2")  # of 24 tokens, as in mistral


@cache
def expected(family: str, length: int) -> list[int]:
    return greedy(tiny_model(family), prompt(length), NEW_TOKENS)


@pytest.mark.parametrize("family", FAMILIES + MORE_FAMILIES)
def test_the_tiny_models_write_texts_that_wander(family: str) -> None:
    for length in LENGTHS if family in FAMILIES else SHORT_LENGTHS:
        assert len(set(expected(family, length))) >= 16


@pytest.mark.parametrize("plain", [True, False], ids=["autoregressive", "ngram"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_float32_writes_what_transformers_writes(family: str, batch: int, plain: bool, place: Path) -> None:
    bundle = tiny_build(place, family, "float32", batch)
    with Generator(bundle, build=build_id("float32", batch), draft_length="fixed") as generator:
        results = generator.generate([prompt(length) for length in LENGTHS], max_new_tokens=NEW_TOKENS, plain=plain)
    for length, result in zip(LENGTHS, results, strict=True):
        assert result.token_ids == expected(family, length), f"prompt of {length}"
        assert result.finish_reason == "length"
        assert result.lossless


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_quantised_ngram_equals_plain_decoding(family: str, batch: int, precision: str, place: Path) -> None:
    bundle = tiny_build(place, family, precision, batch)
    prompts = [prompt(length) * 2 for length in LENGTHS[:3]]
    with Generator(bundle, build=build_id(precision, batch), draft_length="fixed") as generator:
        plain = generator.generate(prompts, max_new_tokens=NEW_TOKENS, plain=True)
        drafted = generator.generate(prompts, max_new_tokens=NEW_TOKENS)
    assert [r.token_ids for r in drafted] == [r.token_ids for r in plain]
    assert sum(r.statistics.drafted_tokens for r in drafted) > 0


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", MORE_FAMILIES)
def test_other_families_write_what_transformers_writes(family: str, batch: int, place: Path) -> None:
    bundle = tiny_build(place, family, "float32", batch)
    prompts = [prompt(length) for length in SHORT_LENGTHS]
    with Generator(bundle, build=build_id("float32", batch), draft_length="fixed") as generator:
        for plain in (True, False):
            results = generator.generate(prompts, max_new_tokens=NEW_TOKENS, plain=plain)
            texts = [result.token_ids for result in results]
            assert texts == [expected(family, length) for length in SHORT_LENGTHS], f"plain: {plain}"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", WINDOWED)
def test_caches_of_windows_slide(family: str, batch: int, place: Path) -> None:
    bundle = tiny_build(place, family, "float32", batch)
    made = open_bundle(bundle).build(build_id("float32", batch)).manifest
    assert made.shapes.roles["target"].window_capacities == {24: 279}
    prompts = [prompt(length) for length in (300, 5, 40)]
    with Generator(bundle, build=made.id, draft_length="fixed") as generator:
        for plain in (True, False):
            texts = [result.token_ids for result in generator.generate(prompts, max_new_tokens=NEW_TOKENS, plain=plain)]
            assert texts == [expected(family, length) for length in (300, 5, 40)], f"plain: {plain}"


@pytest.mark.parametrize("family", MORE_FAMILIES)
def test_quantised_ngram_equals_plain_decoding_in_other_families(family: str, place: Path) -> None:
    bundle = tiny_build(place, family, "int8", 1)
    prompts = [prompt(length) * 2 for length in SHORT_LENGTHS]
    with Generator(bundle, build=build_id("int8", 1), draft_length="fixed") as generator:
        plain = generator.generate(prompts, max_new_tokens=NEW_TOKENS, plain=True)
        drafted = generator.generate(prompts, max_new_tokens=NEW_TOKENS)
    assert [r.token_ids for r in drafted] == [r.token_ids for r in plain]
    assert sum(r.statistics.drafted_tokens for r in drafted) > 0
