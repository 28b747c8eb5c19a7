"""Drafts that are made while the target verifies change nothing but when they are made."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import UsageError
from ptgc.exporters import export
from ptgc.runtime import Generator
from ptgc.runtime.generator import default_num_threads
from ptgc.runtime.tuning import Tuning, read_tuning, write_tuning
from ptgc.spec.bundle import open_bundle
from ptgc.spec.options import make_options
from ptgc.spec.strategies.choice import possible_choices
from ptgc.spec.strategies.draft_model import DrafterVocabulary, DraftModelOptions, draft_model
from ptgc.spec.tree import TreeSpec
from tests.models import greedy, prompt, save, tiny_model
from tests.runtime.test_draft_model import drafter, numbered

DRAFTS, NEW_TOKENS = 3, 48
PROMPTS = [prompt(length) for length in (1, 5, 40, 130, 9, 70)]
"""More than rows of a batch of four, so that prompts are read while others write."""
SAMPLED: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1, "seed": 11}


@cache
def bundle(place: Path) -> Path:
    """A tokenizer's bundle with a build for one row and one for four."""
    roles: dict[str, Any] = {"target": tiny_model("llama"), "drafter": drafter()}
    path = export(roles, draft_model(DRAFTS, overlap=True), place / "overlap", tokenizer=numbered(range(512)))
    for batch in (1, 4):
        build(path, BuildOptions(precision="float32", batch_size=batch, max_length=256, stage=Stage.PREPARE))
    return path


def loaded(path: Path, batch: int = 1, precision: str = "float32", **options: Any) -> Generator:
    name = f"onnxruntime-cpu-{precision}-l256" + (f"-b{batch}" if batch > 1 else "")
    return Generator(path, build=name, **({"draft_length": "fixed", "overlap": True} | options))


@pytest.mark.parametrize("batch", [1, 4])
def test_drafts_change_nothing(place: Path, batch: int) -> None:
    with loaded(bundle(place), batch) as generator:
        results = generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS)
        sampled, plain = (
            generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS, plain=kind, **SAMPLED) for kind in (False, True)
        )
    assert [one.token_ids for one in results] == [greedy(tiny_model("llama"), ids, NEW_TOKENS) for ids in PROMPTS]
    assert [one.token_ids for one in sampled] == [one.token_ids for one in plain]
    for texts in (results, sampled):
        stats = [one.statistics for one in texts]
        assert sum(one.ahead_tokens for one in stats) > sum(one.ahead_used_tokens for one in stats) > 30
    assert not any(one.statistics.ahead_tokens for one in plain)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_drafts_change_nothing_in_quantised_builds(place: Path, precision: str) -> None:
    for batch in (1, 4):
        options = BuildOptions(precision=precision, batch_size=batch, max_length=256, stage=Stage.PREPARE)
        build(bundle(place), options)
        with loaded(bundle(place), batch, precision) as generator:
            for sampling in ({}, SAMPLED):
                drafted, plain = (
                    generator.generate(PROMPTS, max_new_tokens=32, plain=kind, **sampling) for kind in (False, True)
                )
                assert [one.token_ids for one in drafted] == [one.token_ids for one in plain]
                assert sum(one.statistics.ahead_used_tokens for one in drafted) > 0


@pytest.mark.parametrize("rule", ["speculative", "block", "typical"])
def test_a_seed_gives_the_text_of_drafts_made_in_turns(place: Path, rule: str) -> None:
    found = []
    for overlap in (True, False):
        with loaded(bundle(place), 4, acceptance=rule, overlap=overlap) as generator:
            found.append(generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS, trace=True, **SAMPLED))
    ahead, in_turns = found
    assert [one.token_ids for one in ahead] == [one.token_ids for one in in_turns]
    for one, other in zip(ahead, in_turns, strict=True):
        drafted = [[done.drafted_ids for done in text.trace if done.emitted_ids] for text in (one, other)]
        assert drafted[0] == drafted[1]
    assert sum(one.statistics.ahead_used_tokens for one in ahead) > 30


def test_texts_end_within_drafts_made_ahead(place: Path) -> None:
    ids = PROMPTS[2]
    whole = greedy(tiny_model("llama"), ids, NEW_TOKENS)
    with loaded(bundle(place)) as generator:
        rounds = generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True).trace
        written = 0
        for one in rounds:
            inside = range(written, written + one.accepted) if one.is_ahead else ()
            written += len(one.emitted_ids)
            for place_of_end in inside:
                token = whole[place_of_end]
                end = whole.index(token) + 1
                with generator.session() as session:
                    session.append(ids)
                    result = session.generate(max_new_tokens=NEW_TOKENS, stop_token_ids=[token])
                    assert (result.token_ids, result.finish_reason) == (whole[:end], "stop")
                    assert session.generate(max_new_tokens=8).token_ids == greedy(
                        tiny_model("llama"), [*ids, *whole[:end]], 8
                    )
                stopped = generator.generate(ids, max_new_tokens=NEW_TOKENS, stop=f"w{token}")
                assert stopped.finish_reason == "stop" and whole[: len(stopped.token_ids)] == stopped.token_ids
    assert any(one.is_ahead and one.accepted for one in rounds)


def test_sessions_go_on_after_rewinds_forks_and_breaks(place: Path) -> None:
    expected = greedy(tiny_model("llama"), PROMPTS[2], NEW_TOKENS)
    with loaded(bundle(place), 4) as generator:
        session = generator.session()
        session.append(PROMPTS[2])
        assert session.generate(max_new_tokens=16).token_ids == expected[:16]
        other = session.fork()
        session.rewind(5)
        assert other.generate(max_new_tokens=16).token_ids == expected[16:32]
        assert session.generate(max_new_tokens=16).token_ids == expected[11:27]
        other.append([3, 5, 8])
        longer = [*PROMPTS[2], *expected[:32], 3, 5, 8]
        assert other.generate(max_new_tokens=16).token_ids == greedy(tiny_model("llama"), longer, 16)
        for chunk in generator.stream(PROMPTS[2], max_new_tokens=NEW_TOKENS):
            if chunk.token_ids:
                break  # the text is cancelled
        assert generator.generate(PROMPTS[2], max_new_tokens=NEW_TOKENS).token_ids == expected


def test_rounds_are_drafted_ahead_where_the_drafter_guessed_the_last_token_too(place: Path) -> None:
    rounds = ahead = 0
    for ids in PROMPTS[:3]:
        with loaded(bundle(place), num_draft_tokens=2) as generator:
            result = generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True)
        text, guessed = list(ids), False
        for one in result.trace:
            if one.drafted_ids:
                assert one.is_ahead is guessed
                assert one.drafted_ids == greedy(drafter(), text, len(one.drafted_ids))
                rounds, ahead = rounds + 1, ahead + one.is_ahead
            text += one.emitted_ids
            last = len(text) - len(ids) + 2 > NEW_TOKENS  # no draft fits behind the next token
            whole = bool(one.drafted_ids) and one.accepted == len(one.drafted_ids)
            guessed = whole and not last and greedy(drafter(), text[:-1], 1) == text[-1:]
    assert rounds > ahead > rounds / 5


def test_it_is_off_where_no_processors_are_left_and_as_tuned_where_it_was(place: Path) -> None:
    def made_ahead(**options: Any) -> bool:
        with Generator(path, build=made.manifest.id, draft_length="fixed", **options) as generator:
            return generator.generate(PROMPTS[1], max_new_tokens=16).statistics.ahead_tokens > 0

    path = bundle(place)
    made = build(path, BuildOptions(precision="float32", max_length=64, stage=Stage.PREPARE))
    available = len(os.sched_getaffinity(0))
    assert made_ahead(num_threads=1) is (available > 1)
    assert not made_ahead(num_threads=available)
    assert made_ahead(num_threads=available, overlap=True)
    for overlap in (True, False):
        write_tuning(made, Tuning(1, DRAFTS, (), {}, overlap=overlap))
        assert made_ahead() is (overlap and available > 1)
        assert made_ahead(overlap=not overlap) is not overlap
        assert not made_ahead(num_threads=available)  # whatever was tuned for another number


def test_processors_count_that_the_process_may_use(place: Path) -> None:
    whole = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(whole)})
    try:
        assert default_num_threads() == 1
        with loaded(bundle(place), overlap=None, num_threads=1) as generator:
            assert not generator.generate(PROMPTS[1], max_new_tokens=16).statistics.ahead_tokens
    finally:
        os.sched_setaffinity(0, whole)
    assert default_num_threads() == len(whole)


def test_what_does_not_go_with_it_is_refused() -> None:
    for other in ({"tree": "2,2"}, {"drafter_vocabulary": "re-encoded"}):
        with pytest.raises(UsageError, match="--overlap"):
            make_options(DraftModelOptions, {"drafter": "x", "overlap": True} | other, "draft-model")
    for name in ("eagle", "eagle3", "mtp", "dflash", "layer-skip", "medusa"):
        with pytest.raises(UsageError, match="overlap"):
            possible_choices(name, {"overlap": True})
    assert draft_model(tree=TreeSpec.branching(2, 2), overlap=True).problems() == [
        "drafter.overlap takes chains; tree is none"
    ]
    assert draft_model(vocabulary=DrafterVocabulary.REENCODED, overlap=True).problems() == [
        "drafter.overlap needs drafts of the target's vocabulary"
    ]


def test_the_commands_export_check_run_and_tune_it(tmp_path: Path) -> None:
    models = [str(save(model, tmp_path / name)) for name, model in (("t", tiny_model("llama")), ("d", drafter()))]
    path, run = tmp_path / "bundle", CliRunner()
    given = ["--strategy", "draft-model", "--drafter", models[1], "--num-draft-tokens", "3", "--lookup", "suffix"]
    done = run.invoke(app, ["export", models[0], "-o", str(path), *given, "--overlap"])
    assert done.exit_code == 0, done.output
    assert json.loads((path / "manifest.json").read_text())["plan"]["drafter"]["drafters"][-1]["overlap"] is True
    assert run.invoke(app, ["build", str(path), "--precision", "float32", "--max-length", "128"]).exit_code == 0
    assert "overlap" in run.invoke(app, ["inspect", str(path)]).output
    checked = run.invoke(app, ["check", str(path)])
    assert checked.exit_code == 0, checked.output
    (tmp_path / "p.jsonl").write_text(json.dumps({"id": "0", "token_ids": prompt(12)}) + "\n")
    tuned = run.invoke(app, ["tune", str(path), "--prompts", str(tmp_path / "p.jsonl"), "--threads", "1", "--json"])
    assert tuned.exit_code == 0, tuned.output
    bundle = open_bundle(path)
    stored = read_tuning(bundle.build(), bundle.manifest.plan)
    assert stored is not None and stored.overlap is json.loads(tuned.stdout)["overlap"]
    with Generator(path, draft_length="fixed", overlap=True) as generator:
        results = generator.generate([ids * 2 for ids in PROMPTS[:3]], max_new_tokens=32, trace=True)
    for ids, one in zip(PROMPTS, results, strict=False):
        assert one.token_ids == greedy(tiny_model("llama"), ids * 2, 32)
    assert {done.part for one in results for done in one.trace if done.drafted_ids} == {0, 1}
    assert sum(one.statistics.ahead_used_tokens for one in results) > 0
    written = run.invoke(app, ["run", str(path), "--prompt-ids", "5,6,7,5,6,7,5", "--max-new-tokens", "24", "--json"])
    found = json.loads(written.stdout)
    assert found["token_ids"] == greedy(tiny_model("llama"), [5, 6, 7, 5, 6, 7, 5], 24)
    assert {"ahead_tokens", "ahead_used_tokens"} <= found["stats"].keys()
