"""The worker: commands in, answers out, errors as answers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pytest

from ptgc.bench.engines.base import Written
from ptgc.bench.worker import serve
from ptgc.bench.worker_process import EngineWorker
from ptgc.errors import BackendError


class FakeEngine:
    writes_on = True

    def __init__(self, length: int | None = None) -> None:
        self.length = length

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> Written:
        return Written([1] * (self.length or max_new_tokens), 0.1, 0.2, max_new_tokens - 1, 3)


def answers(engine: FakeEngine, *commands: object) -> list[dict[str, Any]]:
    out = io.StringIO()
    serve(engine, [json.dumps(command) for command in commands], out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_text_comes_with_what_the_process_burnt_while_it_waited() -> None:
    command = {"op": "generate", "ids": [1], "max_new_tokens": 3, "mode": "ngram"}
    (answer,) = answers(FakeEngine(), command)
    assert answer["token_ids"] == [1, 1, 1]
    assert answer["idle_seconds"] >= 0
    assert answer["idle_cpu_seconds"] >= 0


def test_errors_are_answers_and_do_not_end_the_worker(capsys: pytest.CaptureFixture[str]) -> None:
    command = {"op": "generate", "ids": [1], "max_new_tokens": 3, "mode": "plain"}
    short, unknown, memory = answers(FakeEngine(1), command, {"op": "fly"}, {"op": "memory"})
    assert "1 tokens were written, not 3" in short["error"]
    assert "fly" in unknown["error"]
    assert memory["resident_bytes"] > 0
    assert "Traceback" in capsys.readouterr().err


def test_an_engine_that_cannot_be_loaded_is_an_error_with_its_reason(tmp_path: Any) -> None:
    settings = {"bundle": str(tmp_path / "none"), "build": "x", "num_threads": 1}
    with pytest.raises(BackendError, match="There is no bundle") as raised:
        EngineWorker("ptgc int8", "ptgc", settings)
    assert "ptgc int8 could not be loaded" in raised.value.message
