"""Fixtures for tests of the compiler."""

from __future__ import annotations

import pydoc_data.topics
import shutil
from pathlib import Path

import pytest

from tests.bundles import real_bundle

ENGLISH = "\n\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))[:60_000]


@pytest.fixture
def english(tmp_path: Path) -> Path:
    path = tmp_path / "english.txt"
    path.write_text(ENGLISH, encoding="utf-8")
    return path


@pytest.fixture
def stories(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(real_bundle(place, "stories15m"), tmp_path / "stories"))
