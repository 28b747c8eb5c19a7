"""Options and prompts as users give them, and the ends of texts, through `Generator`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptgc.errors import CapacityError, UsageError
from ptgc.runtime import Generator
from ptgc.runtime.chat_template import ChatOptions
from ptgc.runtime.load_options import LoadOptions
from ptgc.runtime.option_values import READERS, option_types
from ptgc.runtime.request import GenerateOptions
from tests import tokenizers

_IM_END = 256 + tokenizers.BYTE_SPECIALS.index("<|im_end|>")
_A = 64  # "a" among the printable bytes, which begin with "!"
_LIKELY_SPECIAL: dict[str, Any] = {"max_new_tokens": 12, "temperature": 1.0, "logit_bias": {_IM_END: 90.0, _A: 91.0}}


@pytest.fixture(scope="module")
def generator(place: Path) -> Iterator[Generator]:
    with Generator(tokenizers.text_build(place, "byte-level"), num_threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def fallback(place: Path) -> Iterator[Generator]:
    with Generator(tokenizers.text_build(place, "byte-fallback"), num_threads=1) as loaded:
        yield loaded


def _seed_that_writes(generator: Generator, token: int) -> tuple[int, list[int]]:
    """A seed whose text has the token after its first, and that text."""
    for seed in range(50):
        ids = generator.generate("abc", seed=seed, **_LIKELY_SPECIAL).token_ids
        if token in ids[1:] and ids[0] != token:
            return seed, ids
    raise AssertionError("no text has the token")


@pytest.mark.parametrize("kind", ["generate", "batch", "stream", "session"])
def test_a_special_token_as_stop_string_ends_the_text(generator: Generator, kind: str) -> None:
    seed, ids = _seed_that_writes(generator, _IM_END)
    options = _LIKELY_SPECIAL | {"seed": seed, "stop": ["never", "<|im_end|>"]}
    with generator.session() as session:
        session.append("abc")
        calls: dict[str, Any] = {
            "generate": lambda: generator.generate("abc", **options),
            "batch": lambda: generator.generate(["abc", "abd"], **options)[0],
            "stream": lambda: list(generator.stream("abc", **options))[-1].result,
            "session": lambda: session.generate(**options),
        }
        result = calls[kind]()
        held = session.token_ids
    before = ids[: ids.index(_IM_END)]
    assert (result.finish_reason, result.token_ids) == ("stop", before)
    assert generator.codec is not None
    assert result.text == generator.codec.decode(before)
    assert kind != "session" or held[3:] == before


def test_stop_token_ids_end_the_text_with_the_token(generator: Generator) -> None:
    whole = generator.generate("abc", max_new_tokens=12).token_ids
    stop = whole[5]
    for ignore_eos in (False, True):
        result = generator.generate(
            "abc", max_new_tokens=12, stop_token_ids=[stop, np.int64(511)], ignore_eos=ignore_eos
        )
        assert result.token_ids == whole[: whole.index(stop) + 1]
        assert result.finish_reason == "stop"
    with pytest.raises(UsageError, match="stop_token_ids"):
        generator.generate("abc", stop_token_ids=[1 << 40])


def test_streams_stop_strings_and_sessions_give_the_decoded_text(fallback: Generator) -> None:
    first = tokenizers.FIRST_BYTE
    bias = {first + byte: 90.0 for byte in (0x3D, 0xC3, 0xA9, 0xE2)} | {260: 90.0, 261: 90.0}
    assert fallback.codec is not None
    for seed in range(8):
        options: dict[str, Any] = {"max_new_tokens": 16, "temperature": 2.0, "seed": seed, "logit_bias": bias}
        result = fallback.generate("hello", **options)
        assert result.text == fallback.codec.decode(result.token_ids)
        assert "".join(chunk.text for chunk in fallback.stream("hello", **options)) == result.text
        assert fallback.generate("hello", stop="never", **options).text == result.text
        with fallback.session() as session:
            session.append("hello")
            assert session.generate(**options).text == result.text


def test_a_text_keeps_the_space_between_it_and_its_prompt(fallback: Generator) -> None:
    assert fallback.codec is not None
    word = fallback.codec.tokenizer.token_to_id("\u2581cat")
    options: dict[str, Any] = {"max_new_tokens": 2, "logit_bias": {word: 1e6}}
    assert fallback.generate("a", **options).text == " cat cat"
    assert fallback.generate([1], **options).text == "cat cat"  # after an empty text there is nothing in between


@pytest.mark.parametrize(
    "options",
    [
        {"stop": None},
        {"top_p": None, "logit_bias": None, "temperature": None, "max_new_tokens": None, "plain": None},
        {"logit_bias": {"28": -100}},
        {"logit_bias": {28: -math.inf}},
        {"max_new_tokens": 4.0},
        {"top_k": np.int32(5), "temperature": np.float32(1.0)},
        {"temperature": 1, "seed": (1 << 64) - 1},
        {"stop": ("x", "y"), "deadline": 100},
        {"stop_token_ids": np.array([5, 6])},
        {"tools": None, "template_arguments": None},
    ],
    ids=str,
)
def test_values_of_json_and_numpy_are_taken(generator: Generator, options: dict[str, Any]) -> None:
    generator.generate([5, 6, 7], **{"max_new_tokens": 2, **options})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 4.5),
        ("max_new_tokens", True),
        ("max_new_tokens", "4"),
        ("max_new_tokens", 1 << 40),
        pytest.param("max_new_tokens", 10**5000, id="huge"),
        ("max_new_tokens", math.inf),
        ("temperature", "0.5"),
        ("temperature", math.nan),
        ("temperature", True),
        ("temperature", 10**400),
        ("top_k", 1 << 31),
        ("top_k", [1]),
        ("top_p", {}),
        ("deadline", math.inf),
        ("seed", -1),
        ("seed", 1 << 64),
        ("seed", 1.5),
        ("stop", [1]),
        ("stop", b"x"),
        ("stop", {"x": 1}),
        ("stop", 5),
        ("stop_token_ids", 5),
        ("stop_token_ids", ["5"]),
        ("stop_token_ids", [-1]),
        ("logit_bias", [1]),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"1": "x"}),
        ("logit_bias", {"1": math.nan}),
        ("logit_bias", {"1": math.inf}),
        ("logit_bias", {"1": 1e300}),
        ("logit_bias", {"1": 1, 1: 2}),
        ("logit_bias", {1 << 80: 1}),
        ("logit_bias", {1.5: 1}),
        ("plain", 1),
        ("ignore_eos", "true"),
        ("tools", {"name": "f"}),
        ("tools", ["f"]),
        ("template_arguments", []),
        ("continue_final_message", 1),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_names_the_option(
    generator: Generator, name: str, value: Any
) -> None:
    with pytest.raises(UsageError, match=name):
        generator.generate([5, 6, 7], **{"max_new_tokens": 2, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_draft_tokens", 1.5), ("draft_length", 4), ("wait", "1"), ("max_waiting", True), ("acceptance", [])],
)
def test_load_options_are_checked_alike(place: Path, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        Generator(tokenizers.text_build(place, "byte-level"), **{name: value})


def test_every_option_has_a_reader() -> None:
    for kind in (GenerateOptions, LoadOptions, ChatOptions):
        assert set(option_types(kind).values()) - {"ChatOptions"} <= set(READERS)
    assert len(fields(GenerateOptions)) > 10


@pytest.mark.parametrize("prompt", [[5, 6, 7], (5, 6, 7), np.array([5, 6, 7]), [np.int64(5), np.uint8(6), 7]], ids=repr)
def test_token_ids_may_be_numpys(generator: Generator, prompt: Any) -> None:
    assert (
        generator.generate(prompt, max_new_tokens=4).token_ids
        == generator.generate([5, 6, 7], max_new_tokens=4).token_ids
    )


def test_a_matrix_of_ids_is_a_batch(generator: Generator) -> None:
    results = generator.generate(np.array([[5, 6, 7], [7, 8, 9]]), max_new_tokens=4)  # type: ignore[call-overload]
    assert [one.token_ids for one in results] == [
        generator.generate(ids, max_new_tokens=4).token_ids for ids in ([5, 6, 7], [7, 8, 9])
    ]


@pytest.mark.parametrize(
    "prompt",
    [None, 5, 5.0, b"abc", {"role": "user"}, [True], [1.0], ["1", 2], [None], [-1], [1 << 80], np.array([1.5]), set()],
    ids=repr,
)
def test_what_is_no_prompt_is_a_usage_error(generator: Generator, prompt: Any) -> None:
    with pytest.raises(UsageError):
        generator.generate(prompt, max_new_tokens=2)


def test_text_that_is_no_unicode_becomes_replacement_characters(generator: Generator) -> None:
    assert generator.codec is not None
    assert generator.codec.encode("caf\udce9") == generator.codec.encode("caf\ufffd")
    generator.generate("caf\udce9", max_new_tokens=2, stop="\ud83d")


def test_chat_options_are_for_chat_messages(generator: Generator) -> None:
    user = {"role": "user", "content": "hi"}
    assert generator.codec is not None
    prefill = [user, {"role": "assistant", "content": "It is"}]
    ids = generator.codec.tokenizer.encode(" system: be brief\nuser: hi</s>\nassistant: It is".lstrip()).ids
    came = generator.generate(prefill, continue_final_message=True, max_new_tokens=4)
    assert came.token_ids == generator.generate(ids, max_new_tokens=4).token_ids
    with pytest.raises(UsageError, match="continue_final_message"):
        generator.generate("abc", continue_final_message=True)
    with pytest.raises(UsageError, match="exclude"):
        generator.generate(prefill, continue_final_message=True, add_generation_prompt=True)


def test_more_tokens_than_fit_are_refused(generator: Generator) -> None:
    with pytest.raises(CapacityError):
        generator.generate("abc", max_new_tokens=1e6)
