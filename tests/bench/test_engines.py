"""Engines on tiny models: every mode writes the same greedy text, and its counts are right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptgc.bench.checkpoint_files import check_origin, read_checkpoint
from ptgc.bench.engines.genai_engine import GenaiEngine, stand_in_eos
from ptgc.bench.engines.ptgc_engine import PtgcEngine
from ptgc.bench.engines.transformers_engine import TransformersEngine
from ptgc.bench.genai_folder import genai_folder, genai_pair
from ptgc.errors import CheckpointError, UsageError
from ptgc.spec.bundle import open_bundle
from tests.bench.checkpoints import checkpoint_bundle

PROMPT = list(b"once upon a time, once upon a")
COUNT = 24
SETTINGS = {"num_threads": 1, "num_draft_tokens": 3}


def test_every_mode_of_transformers_writes_the_same_text(target: Path, drafter: Path) -> None:
    engine = TransformersEngine(str(target), str(drafter), "float32", 1, 3, lookup_tokens=5, lookup_ngram=2)
    plain, lookup, assisted = (engine.generate(PROMPT, COUNT, m) for m in ("plain", "prompt-lookup", "assisted"))
    assert plain.token_ids == lookup.token_ids == assisted.token_ids
    assert (plain.rounds, plain.decode_tokens) == (COUNT - 1, COUNT - 1)
    for one in (lookup, assisted):
        assert one.rounds <= one.decode_tokens <= COUNT - 1
        assert one.accepted_tokens <= COUNT


def test_a_drafter_that_is_the_target_has_every_draft_kept(target: Path) -> None:
    engine = TransformersEngine(str(target), str(target), "float32", 1, 3, lookup_tokens=5, lookup_ngram=2)
    written = engine.generate(PROMPT, COUNT, "assisted")
    assert written.decode_tokens == COUNT - 4
    assert written.rounds == (COUNT - 4) // 4


def test_every_mode_of_genai_writes_the_same_text(genai: Path, target: Path, drafter: Path) -> None:
    folder = genai_folder(read_checkpoint(target), "int8", _nothing_to_build)
    pair = genai_pair(folder, genai_folder(read_checkpoint(drafter), "int8", _nothing_to_build))
    alone, drafted = (GenaiEngine(str(one), **SETTINGS) for one in (folder, pair))
    plain, ngram, draft = (
        alone.generate(PROMPT, COUNT, "plain"),
        alone.generate(PROMPT, COUNT, "ngram"),
        drafted.generate(PROMPT, COUNT, "draft"),
    )
    assert plain.token_ids[:4] == ngram.token_ids[:4] == draft.token_ids[:4]
    assert (plain.rounds, plain.decode_tokens) == (COUNT - 1, COUNT - 1)
    assert 0 < ngram.rounds <= ngram.decode_tokens
    assert 0 < draft.rounds <= draft.decode_tokens
    assert draft.drafted_tokens > 0


def test_tokens_that_were_known_with_the_first_one_are_not_decoding(genai: Path, target: Path) -> None:
    folder = genai_folder(read_checkpoint(target), "int8", _nothing_to_build)
    engine = GenaiEngine(str(genai_pair(folder, folder)), **SETTINGS)
    written = engine.generate(PROMPT, COUNT, "draft")
    assert written.decode_tokens == COUNT - 1 - 3
    assert written.rounds == written.decode_tokens // 4


def test_ptgc_writes_the_same_text_with_drafts(bench_place: Path) -> None:
    bundle = checkpoint_bundle(bench_place)
    engine = PtgcEngine(str(bundle), open_bundle(bundle).build().manifest.id, 1)
    plain, drafted = (engine.generate(PROMPT, COUNT, mode) for mode in ("plain", "ngram"))
    assert plain.token_ids == drafted.token_ids
    assert (plain.rounds, plain.decode_tokens) == (COUNT - 1, COUNT - 1)
    assert plain.host_overhead is not None
    assert 0 <= plain.host_overhead < 1


def test_a_special_token_without_a_role_stands_in_for_the_end(tmp_path: Path) -> None:
    model = {"bos_token_id": 1, "eos_token_id": [2, 9], "pad_token_id": 2, "vocab_size": 100}
    added = [{"id": at, "special": at != 8} for at in (1, 2, 7, 8, 9)]
    (tmp_path / "genai_config.json").write_text(json.dumps({"model": model}), encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}), encoding="utf-8")
    assert stand_in_eos(tmp_path) == 7


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--model"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_is_known_by_contents_and_names(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = read_checkpoint(tmp_path).key
    assert read_checkpoint(tmp_path).key == first
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert read_checkpoint(tmp_path).key != first


def test_a_checkpoint_of_another_model_is_refused(bench_place: Path, target: Path, drafter: Path) -> None:
    bundle = open_bundle(checkpoint_bundle(bench_place))
    check_origin(bundle, read_checkpoint(target))
    with pytest.raises(UsageError, match=r"model\.safetensors differs"):
        check_origin(bundle, read_checkpoint(drafter))


def _nothing_to_build(step: str) -> None:
    raise AssertionError(step)
