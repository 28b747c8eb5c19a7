"""`ptgc bench`: the whole run on tiny models, and what it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from ptgc.bench import genai_folder
from ptgc.bench.absences import Absences
from ptgc.bench.bench import check_options, choose_peers
from ptgc.bench.options import BenchOptions
from ptgc.bench.peers import base, transformers_peer
from ptgc.cli.app import app
from ptgc.errors import BackendError, UsageError
from ptgc.exporters import export_checkpoint
from tests.bench.checkpoints import checkpoint_bundle

SILENT = Console(file=io.StringIO())
SHORT = ("--prompts", "story,chat", "--num-prompts", 1, "--max-new-tokens", 6, "--repeats", 1, "--num-threads", 1)


def run(*arguments: object) -> Result:
    result: Any = CliRunner().invoke(app, ["bench", *(str(argument) for argument in arguments)])
    assert result.exit_code != 3, result.output
    return result


def test_strategy_baseline_and_peers_write_the_same_prompts(
    bench_place: Path, target: Path, drafter: Path, genai: Path, tmp_path: Path
) -> None:
    bundle = checkpoint_bundle(bench_place)
    plain = checkpoint_bundle(bench_place, "autoregressive")
    given = ("--model", target, "--drafter", drafter, "--plain-bundle", plain, "--report", tmp_path / "r.json")
    result = run(bundle, *SHORT, *given, "--against", "transformers,onnxruntime-genai", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    names = [row["name"] for row in found["rows"]]
    assert names == [
        "ptgc plain int8",
        "ptgc ngram int8",
        "autoregressive int8",
        "transformers plain float32",
        "transformers prompt-lookup float32",
        "transformers assisted float32",
        "onnxruntime-genai plain int8",
        "onnxruntime-genai ngram int8",
        "onnxruntime-genai draft int8",
    ]
    wanted = {"tokens_per_second", "speedup", "mean_accept_length", "host_overhead", "spread", "runs"}
    assert all(wanted <= set(row) for row in found["rows"])
    assert {row["runs"] for row in found["rows"]} == {2}
    assert found["machine"]["cores"] >= 1
    assert found["absent"] == []
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert len(report["texts"]) == 2 * len(names)
    assert str(bench_place) not in (tmp_path / "r.json").read_text(encoding="utf-8")
    for ours in ("ptgc ngram int8 vs ptgc plain int8",):
        assert report["differing_prompts"][ours] == []


def test_without_a_checkpoint_only_the_bundle_runs(bench_place: Path) -> None:
    result = run(checkpoint_bundle(bench_place), *SHORT)
    assert result.exit_code == 0, result.output
    assert "ptgc ngram int8 / ptgc plain int8" in result.stdout
    assert "transformers" not in result.stdout


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (BenchOptions(max_new_tokens=1), "--max-new-tokens"),
        (
            BenchOptions(against=("vllm",)),
            "vllm; there are: autoregressive, transformers, onnxruntime-genai, openvino-genai, llama.cpp",
        ),
        (BenchOptions(against=("transformers",)), "--model"),
        (BenchOptions(drafter=Path("x")), "--drafter"),
    ],
)
def test_options_that_measure_nothing_are_refused(options: BenchOptions, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        check_options(options)


def test_a_peer_that_is_missing_is_noted_unless_it_was_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise genai_folder.PackageNotFoundError(name)

    monkeypatch.setattr(genai_folder, "version", missing)
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    absences = Absences(Console(stderr=True))
    found = choose_peers(BenchOptions(model=Path("x")), absences)
    assert [peer.name for peer in found] == ["transformers"]
    missing_peers = ["onnxruntime-genai", "openvino-genai", "llama.cpp", "ctranslate2"]
    assert [absent["engine"] for absent in absences.found] == missing_peers
    assert {absent["reason"] for absent in absences.found} == {f"{name} is not installed." for name in missing_peers}
    assert "[bench,export]" in capsys.readouterr().err.replace("\n", "")
    with pytest.raises(BackendError, match=r"\.whl\[bench,export\]"):
        choose_peers(BenchOptions(model=Path("x"), against=("onnxruntime-genai",)), Absences(SILENT, named=True))


def test_transformers_without_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_peer, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"\.whl\[export\]"):
        transformers_peer.TransformersPeer().require()


def test_a_build_that_is_too_short_says_how_long_it_must_be(bench_place: Path) -> None:
    result = run(checkpoint_bundle(bench_place), *SHORT[:4], "--max-new-tokens", 250, "--json")
    found = json.loads(result.stdout)["error"]
    assert (result.exit_code, found["code"]) == (1, "bundle")
    assert "--max-length" in found["action"]


def test_a_plain_bundle_must_decode_plainly(bench_place: Path) -> None:
    bundle = checkpoint_bundle(bench_place)
    result = run(bundle, *SHORT, "--plain-bundle", bundle)
    assert result.exit_code == 2
    assert "--strategy autoregressive" in result.stderr


def test_bundles_beside_are_named_after_their_folders(bench_place: Path, tmp_path: Path) -> None:
    bundle, other = checkpoint_bundle(bench_place), checkpoint_bundle(bench_place, "suffix")
    result = run(bundle, *SHORT, "--beside", other, "--report", tmp_path / "r.json", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["name"] for row in found["rows"]] == [
        "ptgc plain int8",
        "ptgc ngram int8",
        f"ptgc {other.name} int8",
    ]
    texts = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["texts"]
    by_prompt = {text["prompt"]: text["token_ids"] for text in texts if text["name"] == "ptgc plain int8"}
    assert all(text["token_ids"] == by_prompt[text["prompt"]] for text in texts)


def test_bundles_beside_must_draft_for_the_same_model_and_have_their_own_names(
    bench_place: Path, drafter: Path, tmp_path: Path
) -> None:
    bundle = checkpoint_bundle(bench_place)
    for other, said in (
        (checkpoint_bundle(bench_place, "autoregressive"), "--plain-bundle"),
        (export_checkpoint(drafter, tmp_path / "foreign", strategy="suffix"), "another model"),
        (f"{checkpoint_bundle(bench_place, 'suffix')},{checkpoint_bundle(bench_place, 'suffix')}", "Two bundles"),
    ):
        result = run(bundle, *SHORT, "--beside", other)
        assert result.exit_code == 2
        assert said in result.stderr.replace("\n", " ")


def test_a_report_that_cannot_be_written_is_found_before_measuring(bench_place: Path, tmp_path: Path) -> None:
    result = run(checkpoint_bundle(bench_place), "--report", tmp_path / "none" / "r.json")
    assert result.exit_code == 1
    assert "--report" in result.stderr


def test_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    result = run(tmp_path / "none")
    assert result.exit_code == 1
    assert "ptgc export" in result.stderr
