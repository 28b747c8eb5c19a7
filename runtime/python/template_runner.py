"""TemplateRunner: runs chat templates in a separate process, with a budget of time, memory and text."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from ptgc.errors import BackendError, BundleError, UsageError
from ptgc.runtime import template_process

_SECONDS = 60.0
"""Wall clock limit of one rendering. The limit of processor time normally ends the process much earlier."""
_MOST_BYTES = 12 * template_process.MOST_CHARACTERS  # JSON may write a character as two escapes of six bytes


class TemplateRunner:
    """Renders templates; starts its process with the first one and keeps it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._end: weakref.finalize[Any, TemplateRunner] | None = None

    def render(self, template: str, variables: dict[str, Any]) -> str:
        """The text that a template writes from its variables, which are plain data.

        Raises:
            UsageError: The template refuses them.
            BundleError: The template is damaged, or exceeds its budget.
            BackendError: Its process cannot be started.
        """
        with self._lock:
            answer = self._answer({"template": template, "variables": variables})
        if "excess" in answer:
            raise BundleError(
                f"The chat template goes beyond its budget with these messages: {_sentence(answer['excess'])}",
                "Correct the template in the checkpoint and export it again.",
            )
        if "syntax" in answer:
            raise BundleError(
                f"The chat template is damaged: {_sentence(answer['syntax'])}",
                "Correct the template in the checkpoint and export it again.",
            )
        if not isinstance(answer.get("text"), str):
            raise UsageError(f"The chat template refuses these messages: {_sentence(str(answer.get('error')))}")
        return str(answer["text"])

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        clock = threading.Timer(_SECONDS, process.kill)
        clock.daemon = True
        clock.start()
        try:
            template_process.write_block(process.stdin, pickle.dumps(request))
            size = int.from_bytes(process.stdout.read(8), "little")
            answer = json.loads(process.stdout.read(size)) if 0 < size <= _MOST_BYTES else None
        except (OSError, ValueError):
            answer = None
        except BaseException:  # interrupted between request and answer
            self._stop()
            raise
        finally:
            clock.cancel()
        if isinstance(answer, dict):
            return answer
        self._stop()
        return {"excess": f"it takes more than {template_process.CPU_SECONDS} s of processor time, or its process died"}

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; a new one if it has ended, or if it belongs to the parent of this forked process."""
        if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
            self._stop()
            self._process = _start()
            self._owner = os.getpid()
            self._end = weakref.finalize(self, _close, self._process, self._owner)
        return self._process

    def _stop(self) -> None:
        if self._end is not None:
            self._end()
        self._process = None


def _start() -> subprocess.Popen[bytes]:
    script = Path(template_process.__file__).resolve()
    paths = json.dumps([str(Path(path).resolve()) for path in sys.path])
    try:
        return subprocess.Popen(
            [sys.executable, "-I", str(script), paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise BackendError(
            f"The process that renders chat templates cannot be started: {error}.",
            "Give the prompt as a text or as token ids.",
        ) from error


def _close(process: subprocess.Popen[bytes], owner: int) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    if owner == os.getpid():
        process.kill()
        process.wait()
    process.stdout.close()
    with suppress(OSError):  # it ended before it read the whole request
        process.stdin.close()


def _sentence(text: str) -> str:
    return text.rstrip().rstrip(".") + "."
