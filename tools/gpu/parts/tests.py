"""The tests with the marker `gpu`."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from parts.base import Figures, Settings, Skipped

_ROOT = Path(__file__).parents[3]
_MARK = "mark.gpu"
# Not `python -m pytest`: that puts the source tree before an installed wheel.
_PYTEST = "import sys, pytest; sys.path[:] = [place for place in sys.path if place]; sys.exit(pytest.main())"
_SHOWN = 3000  # characters


def measure(_settings: Settings, figures: Figures, _subject: str) -> None:
    """Run them in a separate process, and record pytest's summary."""
    if importlib.util.find_spec("pytest") is None:
        raise Skipped("pytest is not installed.")
    # Only these files: others may import packages that are not installed here.
    files = [str(path) for path in sorted((_ROOT / "tests").rglob("test_*.py")) if _MARK in path.read_text("utf-8")]
    if not files:
        raise Skipped("No test carries the marker, or the folder tests is not here.")
    command = [sys.executable, "-c", _PYTEST, "-m", "gpu", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, check=False)
    found = re.findall(r"(\d+) (passed|failed|error|errors|skipped|deselected)", done.stdout)
    figures.put(outcomes={kind: int(count) for count, kind in found})
    if done.returncode != 0:
        figures.fail("pytest", (done.stdout + done.stderr)[-_SHOWN:])
