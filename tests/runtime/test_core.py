"""The C++ core as Python sees it, on a toy build that ONNX Runtime runs."""

from __future__ import annotations

import json
import signal
import threading
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from ptgc import errors
from ptgc.runtime import _core
from ptgc.runtime.libraries import onnxruntime_library
from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.attention import AttentionKind
from ptgc.spec.canvas import CanvasCache, CanvasStop, ConfidenceOf, PolicyKind, Schedule
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.edit import EditStart
from ptgc.spec.kv_cache import StateKind
from ptgc.spec.loop import Loop
from ptgc.spec.one_shot import OneShotPath
from ptgc.spec.plan import Guarantee
from ptgc.spec.ports import DType
from ptgc.spec.shapes import RoleShapes, ShapePlan
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.draft_model import DrafterVocabulary
from ptgc.spec.strategies.ngram import NgramMatch, ngram
from tests.runtime.toy_build import CONTEXT, VOCAB, Weights, write_toy_build

PLAN = ngram(num_draft_tokens=7, max_ngram_size=4, min_ngram_size=1)
WEIGHTS = Weights.random()
PROMPTS = [[5, 9, 3], [int(i * 7 % VOCAB) for i in range(38)], [11]]


def shapes(batch: int) -> ShapePlan:
    return ShapePlan(batch, 80, {"target": RoleShapes((1, 2, 4, 8, 16), 8, (40, 96))})


@pytest.fixture(scope="module", params=[1, 3])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_build(tmp_path_factory.mktemp("bundle"), PLAN, shapes(request.param))


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return write_toy_build(tmp_path, PLAN, shapes(1))


def load(build: Path, **options: Any) -> _core.Generator:
    return _core.Generator(str(build), num_threads=1, library=onnxruntime_library(), **options)


def request(prompt: list[int], count: int = 30, **options: Any) -> _core.Request:
    return _core.Request(prompt_ids=prompt, max_new_tokens=count, **options)


@pytest.mark.parametrize("plain", [True, False])
def test_text_is_that_of_the_model(build: Path, plain: bool) -> None:
    generator = load(build, draft_length="fixed")
    results = generator.generate([request(prompt, plain=plain) for prompt in PROMPTS])
    assert [result.token_ids for result in results] == [WEIGHTS.continuation(prompt, 30) for prompt in PROMPTS]
    assert [result.finish_reason for result in results] == ["length"] * 3
    assert (sum(result.statistics.drafted_tokens for result in results) == 0) is plain


def test_speculation_takes_fewer_rounds(single: Path) -> None:
    generator = load(single)
    result = generator.generate([request(PROMPTS[0], 60)])[0]
    statistics = result.statistics
    assert statistics.new_tokens == 60
    assert statistics.rounds < 40
    assert statistics.rounds + statistics.accepted_tokens == 59
    assert statistics.mean_accept_length == pytest.approx(59 / statistics.rounds)
    assert 0 < statistics.engine_seconds <= statistics.decode_seconds
    assert statistics.peak_memory_bytes > 0
    assert statistics.fallback_reason is None
    assert generator.load_seconds == statistics.load_seconds > 0


def test_autoregressive_build_drafts_nothing(tmp_path: Path) -> None:
    generator = load(
        write_toy_build(tmp_path, autoregressive(), ShapePlan(1, 80, {"target": RoleShapes((1, 16), 1, (96,))}))
    )
    result = generator.generate([request(PROMPTS[1])])[0]
    assert result.token_ids == WEIGHTS.continuation(PROMPTS[1], 30)
    assert result.statistics.plain_rounds == result.statistics.rounds == 29


def test_trace_holds_every_round(single: Path) -> None:
    result = load(single).generate([request(PROMPTS[1], trace=True)])[0]
    assert [token for entry in result.trace for token in entry.emitted_ids] == result.token_ids
    assert sum(len(entry.drafted_ids) for entry in result.trace) == result.statistics.drafted_tokens
    assert sum(entry.accepted for entry in result.trace) == result.statistics.accepted_tokens
    assert all(0 < entry.engine_seconds <= entry.round_seconds for entry in result.trace)
    assert {entry.width for entry in result.trace} <= {1, 2, 4, 8, 16}


def test_eos_ends_the_text_and_is_its_last_token(single: Path) -> None:
    text = WEIGHTS.continuation(PROMPTS[0], 30)
    result = load(single).generate([request(PROMPTS[0], eos_token_ids=[text[12]])])[0]
    assert result.finish_reason == "eos"
    assert result.token_ids == text[: text.index(text[12]) + 1]


def test_callback_hears_all_tokens_and_stops_by_returning_false(build: Path) -> None:
    heard: dict[int, list[int]] = {0: [], 1: [], 2: []}

    def on_tokens(index: int, ids: list[int]) -> bool | None:
        heard[index] += ids
        return False if index == 1 else None

    results = load(build).generate([request(prompt) for prompt in PROMPTS], on_tokens)
    assert [result.token_ids for result in results] == [heard[0], heard[1], heard[2]]
    assert [result.finish_reason for result in results] == ["length", "stop", "length"]
    assert len(heard[1]) == 1


def test_exception_in_callback_propagates(single: Path) -> None:
    generator = load(single)

    def on_tokens(_index: int, _ids: list[int]) -> bool:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        generator.generate([request(PROMPTS[0])], on_tokens)
    assert generator.free_rows == 1
    assert generator.generate([request(PROMPTS[0], 5)])[0].token_ids == WEIGHTS.continuation(PROMPTS[0], 5)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_ends_a_long_generation(single: Path) -> None:
    generator = load(single)
    timer = threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        generator.generate([request(PROMPTS[0], 70)] * 100_000)
    timer.join()
    assert generator.free_rows == 1


@pytest.mark.usefixtures("interruptible")
def test_interrupt_ends_waiting_for_a_session(single: Path) -> None:
    generator = load(single, wait_seconds=600)
    session = generator.session()
    for wait in (generator.session, session.fork):
        timer = threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            wait()
        timer.join()
    session.close()
    assert generator.free_rows == 1


def test_other_threads_run_meanwhile(single: Path) -> None:
    generator = load(single)
    results: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: results.append(generator.generate([request(PROMPTS[0])])[0].token_ids))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [WEIGHTS.continuation(PROMPTS[0], 30)] * 4


def test_session_keeps_its_text(build: Path) -> None:
    generator = load(build)
    text = WEIGHTS.continuation(PROMPTS[1], 40)
    session = generator.session()
    session.append(PROMPTS[1])
    assert session.generate(request([], 15)).token_ids == text[:15]
    assert session.generate(request([], 25)).token_ids == text[15:]
    assert session.tokens == PROMPTS[1] + text
    session.rewind(30)
    assert session.length == len(PROMPTS[1]) + 10
    assert session.generate(request([4], 5)).token_ids == WEIGHTS.continuation([*PROMPTS[1], *text[:10], 4], 5)
    session.reset()
    assert session.length == 0
    assert session.generate(request(PROMPTS[0], 9)).token_ids == WEIGHTS.continuation(PROMPTS[0], 9)


def test_no_free_row_is_busy(single: Path) -> None:
    generator = load(single)
    session = generator.session()
    assert generator.free_rows == 0
    with pytest.raises(errors.BusyError) as caught:
        generator.session()
    assert caught.value.code == "busy"
    assert caught.value.action
    session.close()
    with pytest.raises(errors.UsageError, match="closed"):
        session.append([1])
    assert generator.free_rows == 1


def test_row_comes_back_when_its_session_is_forgotten(single: Path) -> None:
    generator = load(single)
    session = generator.session()
    del session
    assert generator.free_rows == 1


@pytest.mark.parametrize(
    ("prompt", "count", "error"),
    [
        ([], 5, errors.UsageError),
        ([VOCAB], 5, errors.UsageError),
        ([-1], 5, errors.UsageError),
        ([1], 0, errors.UsageError),
        ([1] * 81, 5, errors.CapacityError),
        ([1] * 70, 11, errors.CapacityError),
    ],
)
def test_bad_requests_are_refused(single: Path, prompt: list[int], count: int, error: type[errors.PtgcError]) -> None:
    with pytest.raises(error) as caught:
        load(single).generate([request(prompt, count)])
    assert caught.value.action


def test_deadline_ends_the_text(single: Path) -> None:
    result = load(single).generate([request(PROMPTS[0], deadline_seconds=1e-9)])[0]
    assert (result.finish_reason, result.token_ids) == ("deadline", [])


def test_measured_costs_decide(single: Path) -> None:
    generator = load(single)
    assert len(generator.measure(8, 8, 32, 3)) == 3
    assert all(seconds > 0 for seconds in generator.measure(16, 1, 0, 2))
    with pytest.raises(errors.UsageError, match="no round of 3"):
        generator.measure(3, 3, 0, 1)
    dear = load(single, costs={"target": {1: 1.0, 2: 50.0}})
    statistics = dear.generate([request(PROMPTS[0])])[0].statistics
    assert statistics.drafted_tokens == 0
    assert statistics.fallback_reason == "speculation does not pay here"


def test_bad_options_are_refused(single: Path) -> None:
    with pytest.raises(errors.UsageError, match="draft length"):
        load(single, draft_length="long")
    with pytest.raises(errors.UsageError, match="exported for 7"):
        load(single, num_draft_tokens=8)


def test_facts_of_the_build(single: Path) -> None:
    generator = load(single)
    assert (generator.batch_size, generator.max_length) == (1, 80)
    assert (generator.context_length, generator.vocab_size) == (CONTEXT, VOCAB)
    assert generator.engine_library_version.startswith("1.")
    generator.close()
    with pytest.raises(errors.UsageError, match="closed"):
        generator.generate([request(PROMPTS[0])])


def test_damaged_build_is_refused(single: Path) -> None:
    graph = single / "target.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(errors.BundleError, match=r"target\.onnx"):
        load(single)


def test_library_that_is_absent_or_wrong(single: Path) -> None:
    with pytest.raises(errors.BackendError, match="Cannot open"):
        _core.Generator(str(single), library="/nonexistent/libonnxruntime.so")


@pytest.mark.parametrize(("content", "error"), [(b"no graph", errors.BundleError), (b"\x08\x0a", errors.BackendError)])
def test_graph_that_is_none_or_that_the_library_refuses(single: Path, content: bytes, error: type[Exception]) -> None:
    (single / "target.onnx").write_bytes(content)
    document = json.loads((single / "build.json").read_text())
    document["files"][0]["size"] = len(content)
    (single / "build.json").write_text(json.dumps(document))
    with pytest.raises(error, match=r"target\.onnx"):
        load(single)


@pytest.mark.parametrize(
    "kind",
    [
        Loop,
        Guarantee,
        NgramMatch,
        DrafterVocabulary,
        AcceptanceRule,
        CanvasCache,
        PolicyKind,
        ConfidenceOf,
        Schedule,
        CanvasStop,
        EditStart,
        OneShotPath,
        DType,
        StateKind,
        AttentionKind,
    ],
)
def test_enums_agree_with_the_specification(kind: type[Enum]) -> None:
    assert _core.enum_names()[kind.__name__] == [member.value for member in kind]


def test_kinds_of_drafters_agree_with_the_specification() -> None:
    assert _core.enum_names()["DrafterKind"] == list(DrafterPlan.json_kinds())


def test_limits_agree_with_the_specification() -> None:
    limits = pytest.importorskip("ptgc.spec.limits")
    assert {name: getattr(limits, name) for name in _core.limits()} == _core.limits()


def test_finish_reasons_are_those_of_the_command_line() -> None:
    assert _core.enum_names()["FinishReason"] == ["eos", "length", "stop", "cancelled", "deadline"]


def test_device_has_a_name_that_is_safe_in_a_path() -> None:
    name = _core.device_fingerprint()
    assert name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert _core.peak_memory_bytes() > 1 << 20
