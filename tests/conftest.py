"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import bundles, wheels


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this run's bundles are."""
    return bundles.folder(tmp_path_factory)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    return wheels.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("PTGC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
