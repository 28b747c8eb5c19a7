"""The order of turns, and what happens to a benchmark if an engine fails."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, cast

import pytest
from rich.console import Console

from ptgc.bench import measuring
from ptgc.bench.absences import Absences
from ptgc.bench.contestants import Contestant, Entrant
from ptgc.bench.engines.base import Written
from ptgc.bench.measuring import Workers, run_all, start_workers, warm_up
from ptgc.errors import BackendError
from ptgc.texts.prompt_set import Prompt

OURS = Contestant("ptgc", "plain", "int8")
PEER = Contestant("onnxruntime-genai", "draft", "int8")
PROMPTS = [Prompt("story", f"story/{name}", (1, 2)) for name in "abc"]
SILENT = Console(file=io.StringIO())


class FakeWorker:
    """Writes a number of texts, and then fails."""

    def __init__(self, lasts: int = 1000) -> None:
        self.left = lasts

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> dict[str, Any]:
        self.left -= 1
        if self.left < 0:
            raise BackendError("It broke down.", "its log")
        return {**asdict(Written([1], 0.1, 0.2, 1, 1)), "idle_seconds": 0.1, "idle_cpu_seconds": 0.0}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "PAUSE_SECONDS", 0)


def workers(ours: int = 1000, peer: int = 1000) -> Workers:
    return cast("Workers", {OURS: FakeWorker(ours), PEER: FakeWorker(peer)})


def entrant(engine: str) -> Entrant:
    return Entrant(engine, "int8", "no such worker", {}, ("plain",), {})


def test_turns_begin_with_another_one_each() -> None:
    runs = run_all(workers(), PROMPTS, 1, 2, SILENT, Absences(SILENT))
    assert [run.contestant for run in runs] == [OURS, PEER, PEER, OURS, OURS, PEER]
    assert [run.prompt for run in runs[::2]] == ["story/a", "story/b", "story/c"]


def test_a_peer_that_fails_while_measuring_is_left_out_and_the_rest_is_kept() -> None:
    absences = Absences(SILENT, named=True)
    runs = run_all(workers(peer=2), PROMPTS, 2, 2, SILENT, absences)
    assert [run.contestant for run in runs] == [OURS] * 6
    assert absences.found == [
        {"engine": "onnxruntime-genai draft int8", "reason": "It broke down.", "action": "its log"}
    ]


def test_a_peer_that_cannot_warm_up_takes_no_part() -> None:
    absences = Absences(SILENT)
    assert list(warm_up(workers(peer=0), PROMPTS[0], 2, absences)) == [OURS]
    assert absences.found[0]["engine"] == PEER.name


def test_a_peer_that_cannot_be_loaded_takes_no_part() -> None:
    absences = Absences(SILENT)
    with ExitStack() as stack:
        assert not start_workers(stack, [entrant("transformers")], absences)
    assert absences.found[0]["engine"] == "transformers plain int8"
    assert "could not be loaded" in absences.found[0]["reason"]


def failing_to_load(engine: str, absences: Absences) -> None:
    with ExitStack() as stack:
        start_workers(stack, [entrant(engine)], absences)


@pytest.mark.parametrize(
    "measure",
    [
        lambda: run_all(workers(ours=2), PROMPTS, 1, 2, SILENT, Absences(SILENT)),
        lambda: warm_up(workers(ours=0), PROMPTS[0], 2, Absences(SILENT)),
        lambda: warm_up(workers(peer=0), PROMPTS[0], 2, Absences(SILENT, named=True)),
        lambda: failing_to_load("ptgc", Absences(SILENT)),
        lambda: failing_to_load("transformers", Absences(SILENT, named=True)),
    ],
    ids=["ours writes", "ours warms up", "named peer warms up", "ours loads", "named peer loads"],
)
def test_an_engine_of_ours_and_a_peer_that_was_named_must_be_able_to(measure: Callable[[], object]) -> None:
    with pytest.raises(BackendError):
        measure()
