"""A worker process that is restarted if a case ends or blocks it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bundles import ROOT

_PATIENCE = 60  # seconds for a case, including the start of its process


class Worker:
    """Opens bundles beside this process.

    Args:
        folder: Where it works: what it writes by a relative name is written there.
        settling: Cases at first that are good: what they open may be opened by every later one.
    """

    def __init__(self, folder: Path, settling: int) -> None:
        self._folder = folder
        self._settling = settling
        self._process: subprocess.Popen[str] | None = None
        self._opened: list[Path] = []

    def run(self, bundle: Path, reader: str) -> dict[str, Any]:
        """The result of opening a bundle: `ids`, `error`, `bug`, or `end` if the process ended or was blocked."""
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None and self._process.stdout is not None
        given = {"bundle": str(bundle), "reader": reader, "settling": self._settling}
        try:
            self._process.stdin.write(json.dumps(given) + "\n")
            self._process.stdin.flush()
            ready = select.select([self._process.stdout], [], [], _PATIENCE)[0]
            line = self._process.stdout.readline() if ready else ""
        except BrokenPipeError:
            ready, line = [True], ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        return {
            "end": f"it ended with {self.stop()}" if ready else f"it was held for {_PATIENCE} s",
            "held": self.stop(),
        }

    def stop(self) -> int | None:
        """End the process; return how it ended."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            return process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            process.stdout.close()

    def _start(self) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        environment["PTGC_CACHE"] = str(self._folder.parent / "cache")
        # Leftovers of killed commands in the temporary folder are swept; a separate folder has none.
        environment["TMPDIR"] = str(self._folder)
        with (self._folder.parent / "worker-stderr").open("ab") as stderr:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.spec.fuzz.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=self._folder,
                env=environment,
            )
