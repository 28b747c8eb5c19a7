"""Tests of a checkpoint's generation settings: applied as defaults, or named in a note."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, MarianMTModel
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.exporters import export_checkpoint
from ptgc.exporters.generation_settings import generation_settings
from ptgc.exporters.references.parity import original_texts
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.fields import read
from ptgc.spec.generation import GenerationDefaults
from ptgc.spec.json_file import UnreadableError
from ptgc.spec.manifest import Manifest
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.strategies.autoregressive import autoregressive
from tests.models import greedy, prompt
from tests.other_models import tiny_llama, tiny_marian
from tests.shared import made_once

_IDS = [token % 96 for token in prompt(20)]
_COUNT = 24


def _with(model: Any, **settings: Any) -> Any:
    changed = copy.deepcopy(model)
    changed.generation_config = GenerationConfig(pad_token_id=0, **settings)  # type: ignore[no-untyped-call]
    return changed


@pytest.mark.parametrize(
    ("settings", "penalty", "suppressed"),
    [
        ({}, 1.0, ()),
        ({"repetition_penalty": 1.1}, 1.1, ()),
        ({"suppress_tokens": [9, 5, -1, 4000]}, 1.0, (5, 9)),
        ({"bad_words_ids": [[7], [2]], "eos_token_id": 2, "suppress_tokens": [5]}, 1.0, (5, 7)),
    ],
)
def test_what_the_runtime_can_do_becomes_a_default(settings: Any, penalty: float, suppressed: tuple[int, ...]) -> None:
    found = generation_settings(_with(tiny_llama(), **settings))
    assert found.defaults == GenerationDefaults(penalty, suppressed)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"no_repeat_ngram_size": 3, "forced_bos_token_id": 0}, ["no_repeat_ngram_size=3", "forced_bos_token_id=0"]),
        ({"num_beams": 4, "length_penalty": 2.0}, ["num_beams=4", "length_penalty=2.0"]),
        ({"bad_words_ids": [[1, 2]]}, ["bad_words_ids=[[1, 2]]"]),
        ({"stop_strings": ["END"]}, ['stop_strings=["END"]']),
        ({"penalty_alpha": 0.6}, ["penalty_alpha=0.6"]),
        ({"min_new_tokens": 3, "eos_token_id": 2}, ["min_new_tokens=3"]),
        ({"begin_suppress_tokens": [5]}, ["begin_suppress_tokens=[5]"]),
        ({"max_new_tokens": 100}, ["max_new_tokens=100"]),
        ({"repetition_penalty": 1000.0}, ["repetition_penalty=1000.0"]),
        ({"do_sample": True, "typical_p": 0.5}, ["typical_p=0.5", "--temperature 1 --top-k 50"]),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.95}, ["--temperature 0.6 --top-k 50 --top-p 0.95"]),
        ({"do_sample": True, "temperature": 0.6, "top_k": 0, "min_p": 0.1}, ["--temperature 0.6 --min-p 0.1"]),
    ],
)
def test_what_it_cannot_do_is_named_with_its_value(settings: Any, named: list[str]) -> None:
    notes = " ".join(generation_settings(_with(tiny_llama(), **settings)).notes)
    assert [text for text in named if text not in notes] == []


@pytest.mark.parametrize(
    "settings",
    [{"num_beams": 1, "length_penalty": 2.0}, {"temperature": 1.0, "top_k": 50}, {"do_sample": False, "top_p": 0.9}],
)
def test_what_changes_nothing_is_not_named(settings: Any) -> None:
    assert generation_settings(_with(tiny_llama(), **settings)).notes == ()


def _first_tokens() -> list[int]:
    return greedy(tiny_llama(), _IDS, _COUNT)


def _settings() -> dict[str, Any]:
    return {"repetition_penalty": 1.3, "suppress_tokens": [_first_tokens()[2]]}


def _export(path: Path) -> None:
    model = _with(tiny_llama(), **_settings())
    model.save_pretrained(path / "model")
    export_checkpoint(path / "model", path / "bundle")
    options = BuildOptions(precision="float32", stage=Stage.PREPARE, max_length=128, build_id="made")
    build(path / "bundle", options)


@pytest.fixture(scope="module")
def made(place: Path) -> Path:
    """A folder with a model that has settings, and its bundle."""
    return made_once(place, "generation-settings", lambda path: (path.mkdir(), _export(path)))


def test_text_is_that_of_transformers_with_the_checkpoints_settings(made: Path) -> None:
    expected = greedy(_with(tiny_llama(), **_settings()), _IDS, _COUNT)
    assert expected != _first_tokens()
    with Generator(made / "bundle") as generator:
        for plain in (False, True):
            assert generator.generate(_IDS, max_new_tokens=_COUNT, plain=plain).token_ids == expected
        assert generator.generate([_IDS, _IDS], max_new_tokens=_COUNT)[1].token_ids == expected
        with generator.session() as session:
            session.append(_IDS)
            assert session.generate(max_new_tokens=_COUNT).token_ids == expected


def test_what_a_request_says_is_not_the_bundles_any_more(made: Path) -> None:
    token = _settings()["suppress_tokens"][0]
    penalised = greedy(_with(tiny_llama(), repetition_penalty=1.1), _IDS, _COUNT)
    with Generator(made / "bundle") as generator:

        def write(**options: Any) -> list[int]:
            found: list[int] = generator.generate(_IDS, max_new_tokens=_COUNT, **options).token_ids
            return found

        assert write(repetition_penalty=1.1, logit_bias={token: 0.0}) == penalised
        assert write(repetition_penalty=1.0, logit_bias={token: 0.0}) == _first_tokens()
        assert write(ignore_defaults=True) == _first_tokens()
        assert write(ignore_defaults=True, repetition_penalty=1.1) == penalised
        assert write(logit_bias={token: -math.inf}) == write()


def test_the_command_line_has_the_same_defaults(made: Path) -> None:
    def run(*options: str) -> list[int]:
        ids = ",".join(map(str, _IDS))
        arguments = ["run", str(made / "bundle"), "--prompt-ids", ids, "--max-new-tokens", str(_COUNT), "--json"]
        found: list[int] = json.loads(CliRunner().invoke(app, [*arguments, *options]).stdout)["token_ids"]
        return found

    assert run() == greedy(_with(tiny_llama(), **_settings()), _IDS, _COUNT)
    assert run("--ignore-defaults") == _first_tokens()
    shown = CliRunner().invoke(app, ["inspect", str(made / "bundle")]).stdout
    assert "repetition penalty 1.3" in shown
    assert "1 suppressed tokens" in shown


def test_reference_texts_and_check_know_nothing_of_the_settings(made: Path) -> None:
    bundle = open_bundle(made / "bundle")
    assert bundle.manifest.reference is not None
    text = json.loads((bundle.path / bundle.manifest.reference).read_text())["prompts"][0]
    expected = greedy(tiny_llama(), text["prompt_ids"], len(text["token_ids"]))
    assert text["token_ids"] == expected
    original = original_texts(bundle, made / "model")
    assert [report.divergences for report in check_bundle(bundle.path, original=original) if not report.passed] == []


@pytest.mark.parametrize("settings", [{"stop_strings": ["a"]}, {"penalty_alpha": 0.6}, {"num_beams": 2}])
def test_settings_that_need_more_than_a_model_do_not_stop_an_export(settings: Any, tmp_path: Path) -> None:
    _with(tiny_llama(), **settings).save_pretrained(tmp_path / "model")
    notes: list[str] = []
    export_checkpoint(tmp_path / "model", tmp_path / "bundle", note=notes.append)
    assert any(next(iter(settings)) in note for note in notes)
    assert open_bundle(tmp_path / "bundle").manifest.provenance["notes"] == notes


@torch.no_grad()
def test_text_of_an_encoder_decoder_has_its_settings_and_its_start(tmp_path: Path) -> None:
    model = copy.deepcopy(tiny_marian())
    settings = {"repetition_penalty": 1.4, "bad_words_ids": [[0]], "decoder_start_token_id": 5}
    model.generation_config = GenerationConfig(pad_token_id=0, **settings)  # type: ignore[no-untyped-call]
    source = [7, 30, 12, 64, 9]
    model.save_pretrained(tmp_path / "model")
    saved: Any = MarianMTModel.from_pretrained(tmp_path / "model")  # its own positions are not saved
    out = saved.generate(torch.tensor([source]), max_new_tokens=_COUNT, do_sample=False, num_beams=1)
    export_checkpoint(tmp_path / "model", tmp_path / "bundle")
    build(tmp_path / "bundle", BuildOptions(precision="float32", stage=Stage.PREPARE, max_length=48, build_id="made"))
    assert open_bundle(tmp_path / "bundle").manifest.model.decoder_start_token_id == 5
    with Generator(tmp_path / "bundle") as generator:
        assert generator.generate(source, max_new_tokens=_COUNT).token_ids == out[0, 1:].tolist()
    assert all(report.passed for report in check_bundle(tmp_path / "bundle"))


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"repetition_penalty": 0},
        {"repetition_penalty": float("nan")},
        {"repetition_penalty": "1"},
        {"suppressed_token_ids": 3},
        {"suppressed_token_ids": [32]},
        {"suppressed_token_ids": [-1]},
        {"suppressed_token_ids": [3, 3]},
        {"suppressed_token_ids": ["3"]},
    ],
)
def test_defaults_out_of_range_are_refused(data: Any) -> None:
    manifest = Manifest(autoregressive(), ModelFacts("llama", 32, 64), {}, ())
    with pytest.raises(UnreadableError, match=r"generation(\.| is)"):
        Manifest.from_json(manifest.to_json() | {"generation": data})


def test_defaults_survive_the_manifest() -> None:
    defaults = GenerationDefaults(1.25, (3, 5))
    assert read(GenerationDefaults, json.loads(json.dumps(defaults.to_json()))) == defaults
