"""The benchmark's checkpoints, bundles and folders, made once for all its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptgc.bench.checkpoint_files import read_checkpoint
from ptgc.bench.genai_folder import genai_folder
from tests.bench.checkpoints import tiny_checkpoint


@pytest.fixture(scope="session")
def bench_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="session")
def target(bench_place: Path) -> Path:
    return tiny_checkpoint(bench_place, 2)


@pytest.fixture(scope="session")
def drafter(bench_place: Path) -> Path:
    return tiny_checkpoint(bench_place, 1)


@pytest.fixture(scope="session")
def genai_cache(bench_place: Path, target: Path, drafter: Path) -> Path:
    """A cache that holds the folders of onnxruntime-genai."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTGC_CACHE", str(bench_place / "cache"))
        for checkpoint in (target, drafter):
            genai_folder(read_checkpoint(checkpoint), "int8", lambda _: None)
    return bench_place / "cache"


@pytest.fixture
def genai(genai_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PTGC_CACHE", str(genai_cache))
    return genai_cache / "genai"
