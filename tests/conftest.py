"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import shared, traces, wheels


def pytest_configure() -> None:
    """Let workers share the processors."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this worker's bundles."""
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="session", autouse=True)
def _shared_traces(place: Path) -> Iterator[None]:
    """Traces of PyTorch that several tests need, made once."""
    with traces.shared_traces(place):
        yield


@pytest.fixture(scope="session")
def wheel(place: Path) -> Path:
    """The wheel of this tree."""
    (found,) = shared.made_once(place, "wheel", wheels.build_wheel).glob("*.whl")
    return found


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("PTGC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own answer to Ctrl-C, which other tests' libraries may have changed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
