"""Limits, options, streaming, stopping and sessions of the runtime."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ptgc.errors import BackendError, BusyError, CapacityError, UsageError
from ptgc.runtime import Generator
from tests.bundles import build_id, real_build, tiny_build
from tests.models import VOCAB_SIZE, prompt


@pytest.fixture(scope="module")
def tiny(place: Path) -> Iterator[Generator]:
    with Generator(tiny_build(place, "llama"), build=build_id("float32", 1)) as generator:
        yield generator


@pytest.fixture(scope="module")
def batch(place: Path) -> Iterator[Generator]:
    with Generator(tiny_build(place, "llama", "float32", 3), build=build_id("float32", 3)) as generator:
        yield generator


@pytest.fixture(scope="module")
def real(place: Path) -> Iterator[Generator]:
    bundle, build = real_build(place, "smollm2-135m-instruct", "int8", 1)
    with Generator(bundle, build=build) as generator:
        yield generator


def test_a_prompt_over_the_capacity_is_refused(tiny: Generator) -> None:
    with pytest.raises(CapacityError, match="513"):
        tiny.generate(prompt(513), max_new_tokens=1)


def test_new_tokens_that_do_not_fit_are_refused(tiny: Generator) -> None:
    with pytest.raises(CapacityError, match="512"):
        tiny.generate(prompt(500), max_new_tokens=13)
    assert len(tiny.generate(prompt(500), max_new_tokens=12).token_ids) == 12


def test_without_a_number_as_many_tokens_are_written_as_fit(tiny: Generator) -> None:
    result = tiny.generate(prompt(500))
    assert len(result.token_ids) == 12
    assert result.finish_reason == "length"


def test_an_empty_prompt_is_refused(tiny: Generator) -> None:
    with pytest.raises(UsageError, match="empty"):
        tiny.generate([], max_new_tokens=1)
    with tiny.session() as session, pytest.raises(UsageError, match="empty"):
        session.generate(max_new_tokens=1)


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE, 1 << 40])
def test_an_id_outside_the_vocabulary_is_refused(tiny: Generator, token: int) -> None:
    with pytest.raises(UsageError, match="vocabulary"):
        tiny.generate([3, token], max_new_tokens=1)


def test_an_unknown_option_lists_those_there_are(tiny: Generator) -> None:
    with pytest.raises(UsageError, match="Unknown option: temprature") as raised:
        tiny.generate([3], temprature=1.0)
    assert "max_new_tokens" in raised.value.action


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"deadline": -1.0}, {"stop": ""}])
def test_options_out_of_range_are_refused(tiny: Generator, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        tiny.generate([3], **options)


def test_text_needs_a_tokenizer(tiny: Generator) -> None:
    with pytest.raises(UsageError, match="no tokenizer"):
        tiny.generate("hello")
    with pytest.raises(UsageError, match="stop strings"):
        tiny.generate([3], stop="x")


def test_ids_must_be_integers(tiny: Generator) -> None:
    with pytest.raises(UsageError, match="integers"):
        tiny.generate([3, 2.5])  # type: ignore[list-item]  # what is tested


def test_a_backend_that_is_not_installed_says_how_to_get_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError, match="not installed") as raised:
        Generator(tiny_build(place, "llama"))
    assert 'pip install "onnxruntime>=' in raised.value.action


def test_a_library_that_is_none_is_refused(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "libonnxruntime.so"
    path.write_bytes(b"not a library")
    monkeypatch.setenv("PTGC_ONNXRUNTIME", str(path))
    with pytest.raises(BackendError):
        Generator(tiny_build(place, "llama"))


def test_a_batch_gives_each_prompt_what_it_gets_alone(tiny: Generator, batch: Generator) -> None:
    prompts = [prompt(length, seed=length) for length in (3, 50, 200, 7, 120)]
    together = batch.generate(prompts, max_new_tokens=24)
    for ids, result in zip(prompts, together, strict=True):
        assert result.token_ids == tiny.generate(ids, max_new_tokens=24).token_ids


def test_a_session_goes_on_where_it_was(tiny: Generator) -> None:
    ids = prompt(30)
    whole = tiny.generate(ids, max_new_tokens=20).token_ids
    with tiny.session() as session:
        session.append(ids[:10])
        session.append(ids[10:])
        first = session.generate(max_new_tokens=8).token_ids
        second = session.generate(max_new_tokens=12).token_ids
        assert first + second == whole
        assert session.token_ids == ids + whole
        session.rewind(12)
        assert session.generate(max_new_tokens=12).token_ids == second
        session.rewind(20 + 10)
        session.append(ids[20:])
        assert session.generate(max_new_tokens=20).token_ids == whole
        session.reset()
        assert len(session) == 0


def test_a_generator_without_a_free_row_is_busy(tiny: Generator) -> None:
    with tiny.session(), pytest.raises(BusyError):
        tiny.session()
    tiny.session().close()


def test_many_threads_share_a_generator(tiny: Generator) -> None:
    ids = [prompt(20, seed=seed) for seed in range(6)]
    expected = [tiny.generate(one, max_new_tokens=16).token_ids for one in ids]
    found: dict[int, list[int]] = {}

    def work(index: int) -> None:
        found[index] = tiny.generate(ids[index], max_new_tokens=16).token_ids

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(ids))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(len(ids))] == expected


def test_a_deadline_ends_the_text_as_it_is(tiny: Generator) -> None:
    result = tiny.generate(prompt(5), max_new_tokens=500, deadline=1e-6)
    assert result.finish_reason == "deadline"
    assert len(result.token_ids) < 500


def test_a_stream_is_the_text_in_pieces(real: Generator) -> None:
    whole = real.generate("Once upon a time", max_new_tokens=40)
    chunks = list(real.stream("Once upon a time", max_new_tokens=40))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [token for chunk in chunks for token in chunk.token_ids] == whole.token_ids
    last = chunks[-1].result
    assert last is not None
    assert last.text == whole.text


def test_leaving_a_stream_cancels_it(real: Generator) -> None:
    stream = real.stream("Once upon a time", max_new_tokens=400)
    next(stream)
    stream.close()
    assert real.generate("The capital of France is", max_new_tokens=2).text.startswith(" Paris")


def test_a_stop_string_ends_the_text_before_it(real: Generator) -> None:
    text = "One, two, three, four, five, six,"
    whole = real.generate(text, max_new_tokens=40).text
    stop = whole[10:14]
    at = whole.index(stop)
    result = real.generate(text, max_new_tokens=40, stop=stop)
    assert result.finish_reason == "stop"
    assert result.text == whole[:at]
    chunks = list(real.stream(text, max_new_tokens=40, stop=[stop, "never"]))
    assert "".join(chunk.text for chunk in chunks) == whole[:at]


def test_characters_of_several_tokens_arrive_whole(real: Generator) -> None:
    assert real.codec is not None
    text = "naïve 日本語 🙂 café"
    growing = real.codec.growing()
    pieces = [growing.append([token]) for token in real.codec.encode(text)]
    assert "".join(pieces) == text
    assert all("�" not in piece for piece in pieces)


@pytest.mark.parametrize(
    "messages",
    [[{"role": "user"}], [{"content": "x"}], [{"role": 1, "content": "x"}], [{"role": "user", "content": None}]],
)
def test_malformed_messages_are_refused(real: Generator, messages: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="role"):
        real.generate(messages)


def test_a_trace_tells_every_round(real: Generator) -> None:
    result = real.generate("a b c d e f g a b c d e f g a b c d", max_new_tokens=30, trace=True)
    emitted = [token for one in result.trace for token in one.emitted_ids]
    assert emitted == result.token_ids
    assert sum(one.accepted for one in result.trace) == result.statistics.accepted_tokens
    assert sum(len(one.drafted_ids) for one in result.trace) == result.statistics.drafted_tokens


def test_statistics_add_up(real: Generator) -> None:
    result = real.generate("a b c d e f g a b c d e f g a b c d", max_new_tokens=30)
    stats = result.statistics
    assert stats.new_tokens == len(result.token_ids) == 30
    assert 0 < stats.engine_seconds <= stats.decode_seconds
    decoded = stats.mean_accept_length * stats.rounds  # the round that ends the prompt may give several tokens
    assert decoded == pytest.approx(round(decoded)) and stats.rounds <= decoded < stats.new_tokens
    assert result.to_json()["stats"]["drafted_tokens"] == stats.drafted_tokens
