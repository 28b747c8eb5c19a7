"""A session is one text or one conversation, however it is split into pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ptgc.errors import CapacityError, UsageError
from ptgc.runtime import Generator
from ptgc.runtime.text import TextCodec
from tests import tokenizers

_USER = {"role": "user", "content": "hi"}
_MORE = {"role": "user", "content": "more"}


@pytest.fixture(scope="module", params=["byte-level", "byte-fallback"])
def generator(place: Path, request: pytest.FixtureRequest) -> Iterator[Generator]:
    with Generator(tokenizers.text_build(place, request.param), num_threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def fallback(place: Path) -> Iterator[Generator]:
    with Generator(tokenizers.text_build(place, "byte-fallback"), num_threads=1) as loaded:
        yield loaded


def _codec(generator: Generator) -> TextCodec:
    assert generator.codec is not None
    return generator.codec


def test_pieces_of_a_text_have_the_tokens_of_the_whole(generator: Generator) -> None:
    with generator.session() as session:
        for piece in ("ab", " cd", "e", "", " f"):
            if piece:
                session.append(piece)
        assert session.token_ids == _codec(generator).encode("ab cde f")


def test_texts_of_a_session_join_to_the_whole(fallback: Generator) -> None:
    words = [_codec(fallback).tokenizer.token_to_id(word) for word in tokenizers.WORDS]
    options: dict[str, Any] = {"logit_bias": dict.fromkeys(words, 1e4), "ignore_eos": True}
    whole = fallback.generate("a", max_new_tokens=12, **options)
    with fallback.session() as session:
        session.append("a")
        parts = [session.generate(max_new_tokens=3, **options).text for _ in range(4)]
    assert "".join(parts) == whole.text
    assert whole.text.startswith(" ")


def test_a_text_behind_a_generated_one_has_no_beginning_of_its_own(fallback: Generator) -> None:
    cat = _codec(fallback).tokenizer.token_to_id("\u2581cat")
    with fallback.session() as session:
        session.append("a")
        session.generate(max_new_tokens=1, logit_bias={cat: 1e6})
        before = session.token_ids
        for piece in (" was", "ab"):
            session.append(piece)
        session.rewind(1)
        session.append("c")
        spelled = [_codec(fallback).tokenizer.token_to_id(piece) for piece in ("\u2581", *"wasac")]
        assert session.token_ids == before + spelled


def test_messages_continue_the_conversation(generator: Generator) -> None:
    codec = _codec(generator)
    with generator.session() as session:
        session.append([_USER])
        asked = session.token_ids
        assert asked == codec.encode_messages([_USER])
        answer = session.generate(max_new_tokens=3).token_ids + session.generate(max_new_tokens=2).token_ids
        text = codec.growing(asked)
        answered = text.append(answer) + text.rest()
        session.append([_MORE])
        came = session.token_ids
        again = codec.render([_USER, {"role": "assistant", "content": answered}, _MORE])
    assert came[: len(asked) + 5] == asked + answer
    assert codec.decode(came).count("be brief") == 1
    # The template closes the answer and opens the next turn; after a line break a text does not begin anew.
    begun = again.index(answered, again.index("assistant: ")) + len(answered)
    line_break = codec.encode("\n", add_special_tokens=False)
    assert came[len(asked) + 5 :] == codec.encode("\n" + again[begun:], add_special_tokens=False)[len(line_break) :]


def test_messages_before_an_answer_are_one_conversation(generator: Generator) -> None:
    system = {"role": "system", "content": "be kind"}
    with generator.session() as session:
        session.append([system])
        session.append([_USER])
        assert session.token_ids == _codec(generator).encode_messages([system, _USER])


def test_the_token_that_ends_an_answer_is_not_written_twice(fallback: Generator) -> None:
    codec = _codec(fallback)
    end = codec.tokenizer.token_to_id("</s>")
    assert end is not None
    with fallback.session() as session:
        session.append([_USER])
        asked = len(session)
        assert session.generate(stop_token_ids=[end], logit_bias={end: 1e6}).token_ids == [end]
        session.append([_MORE])
        assert session.token_ids[asked:].count(end) == 2  # of the answer, and of the next message
        assert session.token_ids[asked] == end


def test_a_message_of_the_assistant_stands_for_what_was_generated(fallback: Generator) -> None:
    cat = _codec(fallback).tokenizer.token_to_id("\u2581cat")
    with fallback.session() as session:
        session.append([_USER])
        text = session.generate(max_new_tokens=2, logit_bias={cat: 1e6}).text
        fork = session.fork()
        session.append([{"role": "assistant", "content": text}, _MORE])
        with fork:
            fork.append([_MORE])
            assert fork.token_ids == session.token_ids
        session.generate(max_new_tokens=2)
        with pytest.raises(UsageError, match="does not"):
            session.append([{"role": "assistant", "content": "I never said so"}, _MORE])


def test_a_conversation_that_the_template_writes_anew_is_refused(
    fallback: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = _codec(fallback).chat_templates
    trimmed = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}[assistant]"
    monkeypatch.setattr(templates, "_sources", {"default": trimmed})
    cat = _codec(fallback).tokenizer.token_to_id("\u2581cat")
    with fallback.session() as session:
        session.append([_USER])
        session.generate(max_new_tokens=1, logit_bias={cat: 1e6})
        held = session.token_ids
        with pytest.raises(UsageError, match="in another way"):
            session.append([_MORE])
        assert session.token_ids == held


def test_messages_do_not_continue_a_text(generator: Generator) -> None:
    with generator.session() as session:
        session.append("ab")
        with pytest.raises(UsageError, match="did not begin as chat messages"):
            session.append([_USER])
        session.reset()
        session.append([_USER])


def test_a_continued_final_message_is_one_answer(fallback: Generator) -> None:
    cat = _codec(fallback).tokenizer.token_to_id("\u2581cat")
    with fallback.session() as session:
        session.append([_USER, {"role": "assistant", "content": "a"}], continue_final_message=True)
        session.generate(max_new_tokens=1, logit_bias={cat: 1e6})
        session.append([_MORE])  # not a message that can be continued
        text = _codec(fallback).decode(session.token_ids)
        assert "assistant: a cat" in text and text.endswith("assistant: ")


def test_a_piece_that_does_not_fit_leaves_the_session_as_it_is(generator: Generator) -> None:
    with generator.session() as session:
        session.append("ab")
        held = session.token_ids
        with pytest.raises(CapacityError):
            session.append("c" * 400)
        assert session.token_ids == held
        session.append("c")
        assert session.token_ids == _codec(generator).encode("abc")
