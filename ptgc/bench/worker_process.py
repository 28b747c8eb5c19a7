"""EngineWorker: the parent's side of worker.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, final

from ptgc.errors import BackendError

_MODULE = "ptgc.bench.worker"
_QUIET = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
_SHOWN_LINES = 5


@final
class EngineWorker:
    """A process that holds one engine and waits for commands.

    Args:
        name: Its name in messages.
        engine: A name in worker.ENGINES.
        settings: The arguments of the engine.

    Raises:
        BackendError: The engine could not be loaded.
    """

    def __init__(self, name: str, engine: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed in close
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, engine, json.dumps(dict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **_QUIET},
        )
        try:
            self.ready: dict[str, Any] = self._read("be loaded")["ready"]
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.perf_counter() - start

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> dict[str, Any]:
        """Let the engine write a text.

        Raises:
            BackendError: The engine failed.
        """
        return self._ask({"op": "generate", "ids": list(ids), "max_new_tokens": max_new_tokens, "mode": mode})

    def memory(self) -> dict[str, int]:
        """The resident bytes of the process."""
        return self._ask({"op": "memory"})

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # the process ended before it read everything
                self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> EngineWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # reading the answer finds out why
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        return self._read(command["op"])

    def _read(self, purpose: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended unexpectedly"}
        if "error" not in answer:
            return answer
        self._log.seek(0)
        said = [text.strip() for text in self._log.read().splitlines() if text.strip(" ^~")]
        why = answer["error"].rstrip(".")
        raise BackendError(f"The worker {self.name} could not {purpose}: {why}.", "\n".join(said[-_SHOWN_LINES:]))
