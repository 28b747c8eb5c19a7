"""Tests of converting models of llama2.c."""

from __future__ import annotations

import pytest
import torch

from ptgc.errors import CheckpointError
from tests.tools.fake_index import llama2c
from tests.tools.llama2c_writing import llama2c_content, tiny_llama


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_model_computes_what_the_original_computes(tied: bool) -> None:
    original = tiny_llama(tied=tied)
    model, _ = llama2c.load_llama2c(llama2c_content(original))
    ids = torch.arange(1, 60)[None]
    assert torch.allclose(model(ids).logits, original(ids).logits, atol=1e-5)
    assert model.config.tie_word_embeddings is tied


def test_generation_ends_at_the_end_or_where_the_next_text_begins() -> None:
    model, _ = llama2c.load_llama2c(llama2c_content(tiny_llama()))
    assert model.generation_config.eos_token_id == [2, 1]


def test_tokenizer_spells_bytes_and_ends_as_llama_does() -> None:
    _, tokenizer = llama2c.load_llama2c(llama2c_content(tiny_llama()))
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 13, 258, 262]) == [
        "<unk>",
        "<s>",
        "</s>",
        "<0x00>",
        "<0x0A>",
        "<0xFF>",
        "▁a",
    ]
    assert tokenizer("ab\né").tokens() == ["<s>", "▁a", "b", "<0x0A>", "<0xC3>", "<0xA9>"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)


@pytest.mark.parametrize("text", ["a", " two  spaces ", "lines\n\n\tend", "café", "日本語 😀"])
def test_decoding_returns_the_text(text: str) -> None:
    _, tokenizer = llama2c.load_llama2c(llama2c_content(tiny_llama()))
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.95, 0.9999])
def test_truncated_content_is_an_error(share: float) -> None:
    content = llama2c_content(tiny_llama())
    with pytest.raises(CheckpointError, match=r"llama2\.c"):
        llama2c.load_llama2c(content[: int(len(content) * share)])


def test_bytes_behind_the_tokenizer_are_an_error() -> None:
    with pytest.raises(CheckpointError, match="4 bytes follow"):
        llama2c.load_llama2c(llama2c_content(tiny_llama()) + b"more")


def test_impossible_sizes_are_an_error() -> None:
    with pytest.raises(CheckpointError, match="sizes are impossible"):
        llama2c.load_llama2c(b"\xff" * 400)
