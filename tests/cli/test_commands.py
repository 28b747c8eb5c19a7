"""The command line as a user meets it: results, errors, exit codes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.runtime import _core
from tests.bundles import build_id, own_copy, real_build, tiny_build, tiny_bundle
from tests.models import prompt, save, tiny_model

BUILD = build_id("float32", 1)


def run(*arguments: object) -> Result:
    result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code != 3, result.output
    return result


def error(result: Result) -> dict[str, str]:
    """The error that `--json` prints."""
    assert result.exit_code == 1, result.output
    found: dict[str, str] = json.loads(result.stdout)["error"]
    assert set(found) == {"code", "message", "action"}
    return found


@pytest.fixture
def bundle(place: Path, tmp_path: Path) -> Path:
    return own_copy(place, tmp_path / "bundle")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model("llama"), tmp_path_factory.mktemp("checkpoint"))


def ids(length: int) -> str:
    return ",".join(str(token) for token in prompt(length))


def test_export_build_run_check_inspect(checkpoint: Path, tmp_path: Path, cache_folder: Path) -> None:
    bundle = tmp_path / "bundle"
    made = run("export", checkpoint, "-o", bundle, "--strategy", "ngram", "--num-draft-tokens", 4, "--json")
    assert made.exit_code == 0
    assert json.loads(made.stdout)["strategy"] == "ngram"
    built = run("build", bundle, "--precision", "float32", "--max-length", 256, "--json")
    assert json.loads(built.stdout)["build"] == "onnxruntime-cpu-float32-l256"
    written = json.loads(run("run", bundle, "--prompt-ids", ids(9), "--max-new-tokens", 12, "--json").stdout)
    plain = json.loads(run("run", bundle, "--prompt-ids", ids(9), "--max-new-tokens", 12, "--plain", "--json").stdout)
    assert written["token_ids"] == plain["token_ids"]
    assert set(written) == {"text", "token_ids", "finish_reason", "strategy", "lossless", "build", "seed", "stats"}
    assert (written["strategy"], plain["strategy"]) == ("ngram", "autoregressive")
    checked = run("check", bundle, "--json")
    assert checked.exit_code == 0, checked.output
    assert all(stage["passed"] for stage in json.loads(checked.stdout)["stages"])
    inspected = json.loads(run("inspect", bundle, "--json").stdout)
    assert inspected["builds"][0]["round_seconds"]["1"] > 0
    shown = run("inspect", bundle).stdout
    assert "ngram" in shown and "CachedAttention" in shown and _core.kernels() in shown


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("export", checkpoint, "-o", tmp_path / name).exit_code == 0
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    text = (tmp_path / "one" / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert str(checkpoint.parent) not in text


def test_run_takes_the_newest_build_and_says_which(bundle: Path) -> None:
    run("build", bundle, "--precision", "int8", "--stage", "prepare", "--max-length", 512)
    result = run("run", bundle, "--prompt-ids", ids(4), "--max-new-tokens", 2)
    assert "Build onnxruntime-cpu-int8-l512" in result.stderr
    assert len(result.stdout.strip().split(",")) == 2


def test_a_report_shows_the_rounds_on_the_text(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    written = run("run", bundle, "--prompt-ids", ids(4), "--max-new-tokens", 5, "--report", file, "--json")
    html = file.read_text()
    assert html.startswith("<!doctype html>")
    for token in json.loads(written.stdout)["token_ids"]:
        assert f">{token} </a>" in html
    assert error(run("run", bundle, "--prompt-ids", ids(4), "--report", tmp_path, "--json"))


def test_a_trace_has_a_line_for_every_round(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    run("run", bundle, "--prompt-ids", ids(4), "--max-new-tokens", 5, "--trace", file)
    rounds = [json.loads(line) for line in file.read_text().splitlines()]
    assert sum(len(one["emitted_ids"]) for one in rounds) == 5
    assert [one["round"] for one in rounds] == list(range(len(rounds)))


def test_dry_run_says_what_would_be_exported_and_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", checkpoint, "-o", tmp_path / "bundle", "--dry-run", "--json")
    assert json.loads(result.stdout)["layers"] == 3
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "B", "--prompt-ids", "1", "--colour", "green"],
        ["export", "X", "-o", "Y", "--strategy", "telepathy"],
        ["build", "B", "--stage", "half"],
        ["run", "B"],
        ["run", "B", "-p", "x", "--prompt-ids", "1"],
        ["run", "B", "--prompt-ids", "1,x"],
        ["export", "X"],
        ["export", "X", "-o", "Y", "--strategy", "autoregressive", "--num-draft-tokens", "3"],
        ["export", "X", "-o", "Y", "--num-draft-tokens", "0"],
        ["export", "X", "-o", "Y", "--min-ngram-size", "5", "--max-ngram-size", "2"],
        ["frobnicate"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str], bundle: Path) -> None:
    result = run(*(bundle if argument == "B" else argument for argument in arguments))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--strategy", "ngram", "--num-steeps", "3", "--colour=green"],
            ["'ngram' takes no --num-steeps, --colour; it has --num-draft-tokens, --max-ngram-size, --min-ngram-size"],
        ),
        (["--strategy=autoregressive", "--num-draft-tokens", "3"], ["takes no --num-draft-tokens; it has no options"]),
        (
            ["--colour", "green"],
            ["'ngram' takes no --colour", "'masked-diffusion' takes no --colour; it has --num-steps"],
        ),
        (
            ["--num-draft-tokens", "0", "--max-ngram-size", "65", "--min-ngram-size", "0"],
            ["--num-draft-tokens is 0", "--max-ngram-size is 65; it must be from 1 to 64", "--min-ngram-size is 0"],
        ),
        (["--min-ngram-size", "5", "--max-ngram-size", "2"], ["--max-ngram-size is 2, below --min-ngram-size 5"]),
        (
            ["--strategy", "suffix", "--min-match-length", "0", "--drafts-per-match", "65", "--min-probability", "2"],
            ["--min-match-length is 0", "--drafts-per-match is 65", "--min-probability is 2"],
        ),
        (["--threshold", "1", "--block-length", "-1"], ["--block-length is -1"]),
        (["--threshold", "1"], ["--threshold is 1.0; it must be between 0 and 1"]),
        (["--policy", "random", "--threshold", "0.5"], ["--threshold is 0.5; --policy random has none"]),
        (
            ["--policy", "entropy", "--threshold", "0", "--confidence-of", "sampled", "--schedule", "per-block"],
            ["--threshold is 0.0; it must be between 0 and 1000", "needs --sampling", "needs --block-length"],
        ),
        (["--strategy", "draft-model"], ["Strategy 'draft-model' needs --drafter"]),
        (["--strategy", "telepathy"], ["There is no strategy 'telepathy'", "masked-diffusion"]),
        (["--strategy", "ctc"], ["no checkpoint format that ptgc export reads"]),
        (
            ["--num-draft-tokens", "3", "--num-steps", "3"],
            ["'ngram' takes no --num-steps", "takes no --num-draft-tokens"],
        ),
    ],
)
def test_options_that_a_strategy_cannot_take_are_all_named(given: list[str], said: list[str]) -> None:
    result = run("export", "X", "-o", "Y", *given, "--json")
    assert result.exit_code == 2, result.output
    found = json.loads(result.stdout)["error"]
    assert found["code"] == "usage"
    for text in said:
        assert text in found["message"]


def test_an_option_of_what_the_checkpoint_is_not_is_wrong_usage(checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", checkpoint, "-o", tmp_path / "b", "--num-steps", 3, "--json")
    assert (result.exit_code, "'ngram' takes no --num-steps" in result.output) == (2, True)
    found = error(run("export", checkpoint, "-o", tmp_path / "b", "--strategy", "masked-diffusion", "--json"))
    assert "cannot generate by 'masked-diffusion'" in found["message"]
    assert "autoregressive, ngram, suffix" in found["action"]


def test_help_has_the_options_of_the_strategy_alone() -> None:
    shown = run("export", "--strategy", "draft-model", "--help").stdout
    assert "--drafter-vocabulary" in shown and "2211.17192" in shown and "lossless" in shown
    assert "--num-steps" not in shown and "--max-ngram-size" not in shown
    assert "masked-diffusion" in shown and "--dry-run" in shown
    shown = run("export", "--help").stdout
    assert "levenshtein" in shown and "--num-steps" in shown and "--num-draft-tokens" in shown
    assert "--drafter" not in shown


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    found = error(run("export", tmp_path / "nowhere", "-o", tmp_path / "b", "--json"))
    assert found["code"] == "checkpoint"
    assert "nowhere" in found["message"]
    assert not (tmp_path / "b").exists()


def test_a_half_downloaded_checkpoint_is_named(checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "half"))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    found = error(run("export", copy, "-o", tmp_path / "b", "--json"))
    assert found["code"] == "checkpoint"
    assert "model.safetensors" in found["message"]
    assert not (tmp_path / "b").exists()


def test_an_export_that_is_there_already_is_not_written_again(checkpoint: Path, tmp_path: Path) -> None:
    made = tmp_path / "again"
    assert run("export", checkpoint, "-o", made).exit_code == 0
    before = made.stat().st_ino, (made / "manifest.json").read_bytes()
    assert "is this export already" in run("export", checkpoint, "-o", made).stderr
    assert (made.stat().st_ino, (made / "manifest.json").read_bytes()) == before
    assert error(run("export", checkpoint, "-o", made, "--num-draft-tokens", 3, "--json"))["code"] == "storage"
    graph = made / "graphs" / "target.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    assert "exists already" in error(run("export", checkpoint, "-o", made, "--json"))["message"]


def test_an_existing_bundle_is_not_overwritten_without_force(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    found = error(run("export", checkpoint, "-o", bundle, "--json"))
    assert (found["code"], "--force" in found["action"]) == ("storage", True)
    assert (bundle / "manifest.json").read_bytes() == before
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("x")
    assert (
        "is no bundle" in error(run("export", checkpoint, "-o", tmp_path / "precious", "--force", "--json"))["message"]
    )
    assert run("export", checkpoint, "-o", bundle, "--force").exit_code == 0
    assert (bundle / "manifest.json").read_bytes() != before


def test_an_existing_build_is_not_overwritten_without_replace(bundle: Path) -> None:
    arguments = ("build", bundle, "--precision", "float32", "--max-length", 512, "--stage", "prepare", "--json")
    found = error(run(*arguments))
    assert "--replace" in found["action"]
    assert run(*arguments, "--replace").exit_code == 0


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("--precision", "int3", "build"),
        ("--precision", "drafter=int8", "build"),
        ("--device", "abacus", "build"),
        ("--max-length", 100_000, "build"),
        ("--batch-size", 0, "build"),
    ],
)
def test_a_build_that_cannot_be_made_says_what_can(option: str, value: object, code: str, bundle: Path) -> None:
    found = error(run("build", bundle, option, value, "--json"))
    assert found["code"] == code
    assert found["action"]
    assert [p.name for p in (bundle / "builds").iterdir() if not p.name.startswith(".")] == [BUILD]


def test_a_prompt_that_does_not_fit_is_a_capacity_error(bundle: Path) -> None:
    assert error(run("run", bundle, "--prompt-ids", ids(600), "--json"))["code"] == "capacity"
    arguments = ("run", bundle, "--prompt-ids", ids(400), "--max-new-tokens", 400, "--json")
    assert error(run(*arguments))["code"] == "capacity"


def test_an_empty_prompt_is_wrong_usage(bundle: Path) -> None:
    result = run("run", bundle, "--prompt-ids", "", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"{", b"[" * 100_000, b'[{"role": "user", "content": "\\ud800"}]', b"[NaN]", b"[]", b"[1]", b"3"],
)
def test_messages_that_are_none_are_refused(place: Path, tmp_path: Path, content: bytes) -> None:
    bundle = tiny_bundle(place, "llama")
    (tmp_path / "file").write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    for given in (tmp_path / "file", tmp_path / "pipe", tmp_path, tmp_path / ("x" * 300)):
        result = run("run", bundle, "--messages", given, "--json")
        assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (2, "usage")
    piped = CliRunner().invoke(app, ["run", str(bundle), "--messages", "-"], input=content)
    assert piped.exit_code == 2, piped.output


@pytest.mark.parametrize("ids", ["9" * 30, "-1", "9" * 5000, "512", "a"])
def test_prompt_ids_that_are_none_are_refused(place: Path, ids: str) -> None:
    result = run("run", tiny_build(place, "llama"), f"--prompt-ids={ids}", "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (2, "usage")


def test_messages_come_from_a_file(place: Path, tmp_path: Path) -> None:
    bundle, build = real_build(place, "smollm2-135m-instruct", "int8", 1)
    file = tmp_path / "messages.json"
    file.write_text(json.dumps([{"role": "user", "content": "Say hello."}]))
    result = run("run", bundle, "--build", build, "--messages", file, "--max-new-tokens", 8)
    assert result.exit_code == 0
    assert result.stdout.strip()
    file.write_text("{}")
    assert run("run", bundle, "--messages", file).exit_code == 2
    assert run("run", bundle, "--messages", tmp_path / "missing").exit_code == 2


def test_check_names_the_first_stage_that_differs(bundle: Path) -> None:
    path = bundle / "builds" / BUILD
    import hashlib

    data = path / "target.data"
    content = bytearray(data.read_bytes())
    content[:4096] = bytes(4096)  # a changed build with matching hashes
    data.write_bytes(content)
    manifest = json.loads((path / "build.json").read_text())
    for entry in manifest["files"]:
        if entry["path"] == "target.data":
            entry["sha256"] = hashlib.sha256(content).hexdigest()
    (path / "build.json").write_text(json.dumps(manifest))
    result = run("check", bundle)
    assert result.exit_code == 1
    assert f"First difference: {BUILD}: prepared graph" in result.stdout


def test_tune_chooses_and_inspect_shows_and_draws_it(bundle: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"id": "a", "token_ids": prompt(12) * 3}) + "\n")
    arguments = ("tune", bundle, "--prompts", prompts, "--max-new-tokens", 8, "--threads", "1")
    found = json.loads(run(*arguments, "--json").stdout)
    assert set(found) == {
        *("rows", "chosen", "acceptance", "overlap", "tokens_per_round", "measured_speedup", "suggestion"),
    }
    assert (found["chosen"]["build"], found["chosen"]["num_threads"], found["chosen"]["divergence"]) == (BUILD, 1, 0)
    shown = run(*arguments)
    assert f"ptgc run {bundle} --build {BUILD}" in shown.stdout and "Measured: " in shown.stdout
    for name in ("costs.png", "costs.svg"):
        assert "as tuned" in run("inspect", bundle, "--picture", tmp_path / name).stdout
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")
    assert BUILD in (tmp_path / "costs.svg").read_text()
    assert run("inspect", bundle, "--picture", "costs.txt").exit_code == 2
    assert run("tune", bundle, "--threads", "0").exit_code == 2
    assert run("inspect", bundle, "--picture", tmp_path / "pictures" / "costs.pdf").exit_code == 0


def test_there_is_nothing_to_draw_before_rounds_are_measured(bundle: Path, tmp_path: Path) -> None:
    result = run("inspect", bundle, "--picture", tmp_path / "costs.png")
    assert result.exit_code == 2 and "--stage compile" in result.output


def test_the_version_is_that_of_the_package() -> None:
    import ptgc

    assert run("--version").stdout.strip() == f"ptgc {ptgc.__version__}"


def test_a_demo_needs_a_strategy_that_takes_its_drafter(tmp_path: Path) -> None:
    result = run("demo", "--drafter", tmp_path, "--strategy", "ngram")
    assert result.exit_code == 2 and "'ngram' drafts without a checkpoint" in result.output


@pytest.mark.parametrize("command", ["export", "build", "run", "bench", "tune", "check", "inspect", "pack", "demo"])
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
