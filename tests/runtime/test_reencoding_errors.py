"""Exceptions from a caller's function within a round that several threads share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export
from ptgc.runtime import _core
from ptgc.runtime.libraries import onnxruntime_library
from ptgc.spec.strategies.draft_model import DrafterVocabulary, draft_model
from tests.models import VOCAB_SIZE, prompt, tiny_model
from tests.runtime.test_draft_model import numbered

THREADS, NEW_TOKENS = 5, 40
Reencode = Callable[[Sequence[int], int], list[int]]


@pytest.fixture(scope="module")
def path(place: Path) -> Path:
    words = numbered(range(VOCAB_SIZE))
    bundle = export(
        {"target": tiny_model("llama"), "drafter": tiny_model("llama")},
        draft_model(4, vocabulary=DrafterVocabulary.REENCODED),
        place / "drafts-that-fail",
        tokenizer=words,
        drafter_tokenizer=words,
    )
    options = BuildOptions(precision="float32", batch_size=THREADS, max_length=128, stage=Stage.PREPARE)
    return build(bundle, options).path


def same(ids: Sequence[int], context: int) -> list[int]:
    return list(ids[context:])


def load(path: Path, to_drafter: Reencode = same, to_target: Reencode = same) -> _core.Generator:
    return _core.Generator(
        str(path), num_threads=1, library=onnxruntime_library(), to_drafter=to_drafter, to_target=to_target
    )


def written(generator: _core.Generator) -> list[Any]:
    """The result of each thread, its tokens or its exception; all threads call at the same time."""
    ends: list[Any] = [None] * THREADS
    together = threading.Barrier(THREADS)

    def write(index: int) -> None:
        together.wait()
        try:
            request = _core.Request(prompt_ids=prompt(5, index), max_new_tokens=NEW_TOKENS)
            ends[index] = generator.generate([request])[0].token_ids
        except BaseException as error:  # noqa: BLE001  # compared by the test
            ends[index] = error

    threads = [threading.Thread(target=write, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


@pytest.fixture(scope="module")
def texts(path: Path) -> list[list[int]]:
    return written(load(path))


def failing(error: BaseException, fails: Callable[[Sequence[int]], bool]) -> Reencode:
    def reencode(ids: Sequence[int], context: int) -> list[int]:
        if fails(ids):
            raise error
        return same(ids, context)

    return reencode


@pytest.mark.parametrize("direction", ["to_drafter", "to_target"])
def test_only_the_text_whose_function_fails_ends(direction: str, path: Path, texts: list[list[int]]) -> None:
    mine = ValueError("mine")
    own = prompt(5, 2)
    reencode = failing(mine, lambda ids: list(ids[:5]) == own and len(ids) > 15)
    generator = load(path, **{direction: reencode})
    ends = written(generator)
    assert ends[2] is mine
    assert ends[:2] + ends[3:] == texts[:2] + texts[3:]
    assert generator.free_rows == THREADS


def test_every_thread_has_an_exception_of_its_own(path: Path) -> None:
    def fail(ids: Sequence[int], _context: int) -> list[int]:
        raise ValueError(f"about {ids[0]}")

    ends = written(load(path, to_drafter=fail))
    assert [str(error) for error in ends] == [f"about {prompt(5, index)[0]}" for index in range(THREADS)]
    assert len({id(error) for error in ends}) == THREADS
    assert {type(error) for error in ends} == {ValueError}


def test_an_interruption_is_for_the_thread_that_runs_the_function(path: Path, texts: list[list[int]]) -> None:
    raised: list[int] = []

    def interrupt(ids: Sequence[int], context: int) -> list[int]:
        if len(ids) > 15 and not raised:
            raised.append(threading.get_ident())
            raise KeyboardInterrupt
        return same(ids, context)

    ends = written(load(path, to_drafter=interrupt))
    assert [type(end) for end in ends].count(KeyboardInterrupt) == 1
    assert all(end == text for end, text in zip(ends, texts, strict=True) if isinstance(end, list))


def test_a_function_that_gives_no_ids_is_named(path: Path) -> None:
    generator = load(path, to_target=lambda _ids, _context: "text")  # type: ignore[arg-type,return-value]  # the mistake
    assert all("re-encoding" in str(end) for end in written(generator))


def test_a_callback_that_fails_for_one_text_of_a_list_ends_the_call_alone(path: Path, texts: list[list[int]]) -> None:
    generator = load(path)
    mine = ValueError("mine")
    requests = [_core.Request(prompt_ids=prompt(5, index), max_new_tokens=NEW_TOKENS) for index in range(4)]
    heard: list[int] = []

    def on_tokens(index: int, ids: list[int]) -> None:
        heard.append(index)
        if index == 2 and len(heard) > 12:
            raise mine

    ends: list[Any] = []
    other = threading.Thread(target=lambda: ends.append(generator.generate(requests[:1])[0].token_ids))
    other.start()
    with pytest.raises(ValueError, match="mine") as caught:
        generator.generate(requests, on_tokens)
    other.join()
    assert caught.value is mine
    assert ends == [texts[0]]
    assert generator.free_rows == THREADS
    assert [result.token_ids for result in generator.generate(requests)] == texts[:4]
