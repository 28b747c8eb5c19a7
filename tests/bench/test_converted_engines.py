"""Peers with a converter on a tiny model, if they are installed: at float32 they write what PyTorch writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ptgc.bench.checkpoint_files import read_checkpoint
from ptgc.bench.engines.llama_cpp_engine import CountedDrafts
from ptgc.bench.engines.rounds import Rounds
from ptgc.bench.engines.transformers_engine import TransformersEngine
from ptgc.bench.peers import PEERS
from ptgc.bench.peers.base import PeerTask
from ptgc.bench.worker_process import EngineWorker
from ptgc.errors import BackendError
from ptgc.spec.bundle import open_bundle
from tests.bench.checkpoints import checkpoint_bundle

PROMPT = list(b"once upon a time, once upon a")
COUNT = 24


@pytest.fixture(scope="module")
def wanted(target: Path) -> Sequence[int]:
    """What PyTorch writes."""
    engine = TransformersEngine(str(target), None, "float32", 1, 3, lookup_tokens=5, lookup_ngram=2)
    return engine.generate(PROMPT, COUNT, "plain").token_ids


@pytest.mark.parametrize("name", ["openvino-genai", "llama.cpp", "ctranslate2"])
def test_every_mode_writes_the_text_of_pytorch(
    name: str, bench_place: Path, target: Path, wanted: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = PEERS[name]
    try:
        peer.require()
    except BackendError as error:
        pytest.skip(error.message)
    monkeypatch.setenv("PTGC_CACHE", str(bench_place / "cache"))
    checkpoint = read_checkpoint(target)
    plan = open_bundle(checkpoint_bundle(bench_place)).manifest.plan
    task = PeerTask(checkpoint, checkpoint, plan, num_threads=1, max_length=len(PROMPT) + COUNT)
    for entrant in peer.entrants(task, "float32", lambda _: None):
        (mode,) = entrant.modes
        with EngineWorker(entrant.name, entrant.worker, entrant.settings) as worker:
            first, again = (worker.generate(PROMPT, COUNT, mode) for _ in range(2))
        for written in (first, again):
            assert written["token_ids"] == wanted
            assert 0 < written["rounds"] <= written["decode_tokens"] <= COUNT - 1
            assert written["prefill_seconds"] > 0
        if mode == "plain":
            assert first["rounds"] == first["decode_tokens"] == COUNT - 1
        if mode == "draft":  # the drafter is the target
            assert first["rounds"] <= COUNT / 4


def test_rounds_count_from_the_second_one_on() -> None:
    rounds = Rounds()
    for count in (2, 3, 1):
        rounds.add(count)
    written = rounds.written([1, 2, 3, 4, 5, 6], drafted=7)
    assert (written.decode_tokens, written.rounds) == (4, 2)
    assert (written.drafted_tokens, written.accepted_tokens) == (7, 2)


def test_drafts_are_counted_round_by_round() -> None:
    def drafts(input_ids: Any) -> list[int]:
        return list(range(input_ids))

    counted = CountedDrafts(drafts)
    assert [len(counted(count)) for count in (2, 0, 3)] == [2, 0, 3]  # type: ignore[arg-type]  # any input will do
    assert counted.counts == [2, 0, 3]
    counted.clear()
    assert counted.counts == []
