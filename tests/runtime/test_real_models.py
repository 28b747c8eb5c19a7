"""Real weights, real text: SmolLM2-135M-Instruct and stories15M."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ptgc.runtime import Generator
from tests.bundles import real_build, real_model

NEW_TOKENS = 64
MODELS = ("smollm2-135m-instruct", "stories15m")
TEXTS = {
    "smollm2-135m-instruct": (
        "The capital of France is",
        "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n\ndef fib",
        "Name: Ada\nAge: 36\nCity: London\n\nName: Grace\nAge: 45\nCity: Arlington\n\n" * 9 + "Name: Ada\nAge:",
    ),
    "stories15m": (
        "Once upon a time",
        "Lily and Ben went to the park. They saw a big dog. The dog was",
        "Tom had a red ball. He liked to play with the red ball. One day, Tom saw a big tree. " * 8 + "Tom had a",
    ),
}


@cache
def original(name: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(real_model(name), dtype=torch.float32).eval()


@cache
def expected(name: str, ids: tuple[int, ...]) -> list[int]:
    with torch.no_grad():
        out = original(name).generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=0,
        )
    return out[0, len(ids) :].tolist()


def fitting(generator: Generator, name: str) -> list[list[int]]:
    """The prompts, cut so that there is room for the new tokens."""
    assert generator.codec is not None
    room = generator.build.manifest.shapes.max_length - NEW_TOKENS
    return [generator.codec.encode(text)[:room] for text in TEXTS[name]]


@pytest.mark.parametrize("plain", [True, False], ids=["autoregressive", "ngram"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_float32_writes_what_transformers_writes(name: str, batch: int, plain: bool, place: Path) -> None:
    bundle, build = real_build(place, name, "float32", batch)
    with Generator(bundle, build=build, draft_length="fixed") as generator:
        prompts = fitting(generator, name)
        if batch == 1 and name.startswith("smollm2"):
            assert len(prompts[-1]) > 2 * max(generator.build.manifest.shapes.roles["target"].widths)
        results = generator.generate(prompts, max_new_tokens=NEW_TOKENS, plain=plain)
    for ids, result in zip(prompts, results, strict=True):
        assert result.token_ids == expected(name, tuple(ids))
    if not plain:
        assert sum(r.statistics.accepted_tokens for r in results) > 0


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_quantised_ngram_equals_plain_decoding(name: str, batch: int, precision: str, place: Path) -> None:
    bundle, build = real_build(place, name, precision, batch)
    with Generator(bundle, build=build, draft_length="fixed") as generator:
        prompts = fitting(generator, name)
        plain = generator.generate(prompts, max_new_tokens=NEW_TOKENS, plain=True)
        drafted = generator.generate(prompts, max_new_tokens=NEW_TOKENS)
    assert [r.token_ids for r in drafted] == [r.token_ids for r in plain]
    assert sum(r.statistics.accepted_tokens for r in drafted) > 0


def test_int8_knows_the_capital_of_france_and_chats(place: Path) -> None:
    bundle, build = real_build(place, "smollm2-135m-instruct", "int8", 1)
    with Generator(bundle, build=build) as generator:
        assert generator.generate("The capital of France is", max_new_tokens=4).text.startswith(" Paris")
        answer = generator.generate([{"role": "user", "content": "Count from 1 to 5."}], max_new_tokens=96)
    assert "1" in answer.text
    assert "<|im_end|>" not in answer.text


def test_the_chat_template_gives_the_ids_of_transformers(place: Path) -> None:
    from transformers import AutoTokenizer

    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi, où es-tu?"}]
    tokenizer = AutoTokenizer.from_pretrained(real_model("smollm2-135m-instruct"))
    expected_ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    bundle, build = real_build(place, "smollm2-135m-instruct", "int8", 1)
    with Generator(bundle, build=build) as generator:
        assert generator.codec is not None
        assert generator.codec.encode_messages(messages) == expected_ids
