"""Streams of generators and sessions: equal to the text, closed early, beside other calls."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptgc.errors import UsageError
from ptgc.runtime import Generator
from tests.bundles import build_id, tiny_build
from tests.models import prompt


@pytest.fixture(scope="module")
def tiny(place: Path) -> Iterator[Generator]:
    with Generator(tiny_build(place, "llama"), build=build_id("float32", 1), num_threads=1) as generator:
        yield generator


@pytest.fixture(scope="module")
def pair(place: Path) -> Iterator[Generator]:
    build = tiny_build(place, "llama", "float32", 2)
    with Generator(build, build=build_id("float32", 2), num_threads=1, wait=600) as generator:
        yield generator


def test_a_session_streams_its_text(tiny: Generator) -> None:
    whole = tiny.generate(prompt(9), max_new_tokens=40).token_ids
    with tiny.session() as session:
        session.append(prompt(9))
        for count in (15, 25):
            chunks = list(session.stream(max_new_tokens=count))
            result = chunks[-1].result
            assert result is not None and result.finish_reason == "length"
            assert [token for chunk in chunks for token in chunk.token_ids] == result.token_ids
        assert session.token_ids == prompt(9) + whole


@pytest.mark.parametrize("how", ["close", "leave", "collect"])
def test_a_session_holds_what_its_stream_has_handed_over(how: str, tiny: Generator) -> None:
    whole = tiny.generate(prompt(9), max_new_tokens=60).token_ids
    with tiny.session() as session:
        session.append(prompt(9))
        stream = session.stream(max_new_tokens=400)
        heard = next(stream).token_ids + next(stream).token_ids
        if how == "close":
            stream.close()
        elif how == "leave":
            for chunk in stream:
                heard += chunk.token_ids
                break
        del stream
        gc.collect()
        assert session.token_ids == prompt(9) + heard
        rest = session.generate(max_new_tokens=60 - len(heard)).token_ids
        assert heard + rest == whole


def test_a_stream_of_a_session_that_is_closed_ends(tiny: Generator) -> None:
    session = tiny.session()
    session.append(prompt(9))
    stream = session.stream(max_new_tokens=400)
    next(stream)
    session.close()
    assert [chunk.result.finish_reason for chunk in stream if chunk.result] == ["cancelled"]
    with pytest.raises(UsageError, match="closed"):
        next(session.stream(max_new_tokens=1))


@pytest.mark.usefixtures("interruptible")
def test_a_stream_that_waits_for_a_row_can_be_closed(pair: Generator) -> None:
    sessions = [pair.session() for _ in range(2)]
    stream = pair.stream(prompt(5), max_new_tokens=5)
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    sessions.pop().close()
    reader.join()  # a row was free then
    sessions.append(pair.session())
    waits = pair.stream(prompt(5), max_new_tokens=5)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        next(waits)
    for session in sessions:
        session.close()
    assert pair.core.free_rows == 2


def test_a_text_is_the_same_beside_a_prompt_that_is_read_in_smaller_rounds(pair: Generator) -> None:
    alone = pair.generate(prompt(5), max_new_tokens=300).token_ids
    (read_alone,) = [pair.generate(prompt(300), max_new_tokens=2, trace=True)]
    widest = max(one.width for one in read_alone.trace)
    assert widest == 128
    stream = pair.stream(prompt(5), max_new_tokens=300)
    heard = next(stream).token_ids
    beside = pair.generate(prompt(300), max_new_tokens=2, trace=True)
    for chunk in stream:
        heard += chunk.token_ids
    assert heard == alone
    assert beside.token_ids == read_alone.token_ids
    reading = [one.width for one in beside.trace if not one.emitted_ids]
    assert max(reading) <= 16


def test_a_generator_may_be_forgotten_while_its_stream_runs(place: Path) -> None:
    stream = Generator(tiny_build(place, "llama"), build=build_id("float32", 1), num_threads=1).stream(
        prompt(5), max_new_tokens=400
    )
    next(stream)
    gc.collect()
    next(stream)
    del stream
    gc.collect()
    assert not any(thread.name == "ptgc-stream" for thread in threading.enumerate())


def test_a_process_ends_while_streams_are_open(place: Path) -> None:
    script = """
import sys, threading
from ptgc.runtime import Generator
generator = Generator(sys.argv[1], build=sys.argv[2], num_threads=1)
kept = generator.stream([5, 6, 7], max_new_tokens=500)
next(kept)
def serve():
    while True:
        for chunk in generator.stream([5, 6, 7], max_new_tokens=500):
            heard.set()
heard = threading.Event()
for _ in range(3):
    threading.Thread(target=serve, daemon=True).start()
heard.wait()
"""
    build = tiny_build(place, "llama", "float32", 2)
    command = [sys.executable, "-c", script, str(build), build_id("float32", 2)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("count", [0, -1, 4097, 2**40])
def test_numbers_of_threads_out_of_range_are_refused(count: int, place: Path) -> None:
    with pytest.raises(UsageError, match=f"num_threads is {count}; it must be from 1 to"):
        Generator(tiny_build(place, "llama"), build=build_id("float32", 1), num_threads=count)
