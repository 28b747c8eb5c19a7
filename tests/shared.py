"""Slow preparations that all tests share: made once in a run, by the first worker that needs them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def made_once(place: Path, name: str, make: Callable[[Path], object]) -> Path:
    """The path for which `make` was called in this run; `place` is this worker's (conftest.py)."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    run = place.parents[1] if is_worker else place.parent
    path = run / "made-once" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{name}.lock")):
        if not path.exists():
            make(path)
    return path


def worker_copy(place: Path, name: str, export: Callable[[Path], object]) -> Path:
    """This worker's copy of a bundle, in which its tests may build."""
    return Path(shutil.copytree(made_once(place, name, export), place / name))
