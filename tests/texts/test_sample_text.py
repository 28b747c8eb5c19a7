"""Samples are spread over the whole file; unusable texts are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptgc.errors import UsageError
from ptgc.spec.bundle import open_bundle
from ptgc.texts.sample_text import MOST_TOKENS, read_sample_text
from tests.bundles import real_bundle, tiny_bundle


def test_a_long_text_gives_parts_from_its_beginning_to_its_end(place: Path, tmp_path: Path) -> None:
    bundle = open_bundle(real_bundle(place, "stories15m"))
    path = tmp_path / "count.txt"
    path.write_text(" ".join(f"word{number}" for number in range(20_000)), encoding="utf-8")
    found = read_sample_text(path, bundle)
    assert 0.9 * MOST_TOKENS < found.num_tokens <= MOST_TOKENS
    assert max(map(len, found.sequences)) == bundle.manifest.model.context_length
    assert len(set(found.sequences)) == len(found.sequences)


def test_prompts_are_sequences_of_their_own(place: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle(place, "llama"))
    path = tmp_path / "ids.jsonl"
    lines = [{"id": str(number), "token_ids": [5, number % 50, 7] * 10} for number in range(40)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert read_sample_text(path, bundle).sequences[3] == (5, 3, 7) * 10
    path.write_text(json.dumps(lines[0]) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="30 tokens; a model is judged and quantised on at least 1024"):
        read_sample_text(path, bundle)


def test_long_prompts_become_several_sequences_and_short_ones_stay_whole(place: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle(place, "llama"))
    path = tmp_path / "ids.jsonl"
    lines = [{"id": str(number), "token_ids": [number % 50] * (2 if number % 2 else 600)} for number in range(64)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = read_sample_text(path, bundle, longest=400)
    assert {len(sequence) for sequence in found.sequences} == {400, 200, 2}
    assert MOST_TOKENS - 400 < found.num_tokens <= MOST_TOKENS


@pytest.mark.parametrize("token", [-1, 100_000])
def test_ids_that_the_model_lacks_are_refused(place: Path, tmp_path: Path, token: int) -> None:
    path = tmp_path / "ids.jsonl"
    path.write_text(json.dumps({"id": "x", "token_ids": [1, token] * 600}) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="not below"):
        read_sample_text(path, open_bundle(tiny_bundle(place, "llama")))
