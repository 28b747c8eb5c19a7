"""Running one part in a separate process, so that a crash, a hang or a corrupted device ends only that part."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parts import PARTS
from parts.base import Settings

_PROCESS = Path(__file__).with_name("part_process.py")
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_SHOWN_LINES = 12
_LEAST_SECONDS = 5.0
"""Less than this is not worth starting a process for."""

OK, FAILED, SKIPPED, OUT_OF_TIME = "ok", "failed", "skipped", "out of time"


@dataclass(frozen=True)
class Task:
    """A part, and the subject that it is run for."""

    part: str
    """Name of the part."""
    subject: str = ""
    """The subject; empty if the part is run once."""

    @property
    def name(self) -> str:
        """Its name in the report."""
        return f"{self.part}/{self.subject}" if self.subject else self.part


def run_task(task: Task, settings: Settings, seconds_left: float) -> dict[str, Any]:
    """Run a task within its time limit and the time left for the whole run.

    Returns:
        Its entry in the report: status, seconds, the error if there is one, and figures.
    """
    seconds = min(PARTS[task.part].seconds, seconds_left)
    if seconds < min(_LEAST_SECONDS, PARTS[task.part].seconds):
        return {"status": OUT_OF_TIME, "seconds": 0.0, "error": "No time was left to start it."}
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ptgc-gpu-") as folder:
        figures = Path(folder) / "figures.json"
        with (Path(folder) / "log").open("w+", encoding="utf-8", errors="replace") as log:
            returned = _run(task, settings, figures, log, seconds)
            entry = _entry(returned, seconds, figures, log)
    return {**entry, "seconds": round(time.monotonic() - start, 2)}


def _run(task: Task, settings: Settings, figures: Path, log: Any, seconds: float) -> int | None:
    """The process's exit status; None if it was ended because its time was over."""
    command = [sys.executable, str(_PROCESS), task.part, task.subject, str(figures), json.dumps(asdict(settings))]
    environment = {**os.environ, **_QUIET, "LD_LIBRARY_PATH": os.pathsep.join(library_folders())}
    # In a separate session, so that processes started by the part can be ended with it.
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _entry(returned: int | None, seconds: float, figures: Path, log: Any) -> dict[str, Any]:
    found = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {}
    entry: dict[str, Any] = {"status": OK, **found.get("values", {})}
    if found.get("failures"):
        entry |= {"status": FAILED, "error": "\n".join(f"{name}: {text}" for name, text in found["failures"].items())}
    if returned is None:
        entry |= {"status": OUT_OF_TIME, "error": f"It was ended after {seconds:.0f} s.\n{_tail(log)}"}
    elif returned != 0:
        how = f"signal {signal.Signals(-returned).name}" if returned < 0 else f"exit status {returned}"
        entry |= {"status": FAILED, "error": f"It ended with {how}.\n{_tail(log)}"}
    elif found.get("skipped"):
        entry |= {"status": SKIPPED, "error": found["skipped"]}
    return entry


def _tail(log: Any) -> str:
    log.seek(0)
    return "\n".join(log.read().splitlines()[-_SHOWN_LINES:])


def library_folders() -> Iterator[str]:
    """Folders in which libraries are found by name: those already set, and those of NVIDIA's Python packages."""
    yield from filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    for place in filter(None, sys.path):
        yield from sorted(str(folder) for folder in Path(place).glob("nvidia/*/lib"))
        yield from sorted(str(folder) for folder in Path(place).glob("tensorrt*_libs"))
