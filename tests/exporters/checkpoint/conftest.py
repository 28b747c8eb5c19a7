"""Small checkpoints on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from ptgc.exporters.checkpoint.huggingface_directory import write_huggingface_directory
from tests.models import tiny_model


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A small Llama checkpoint in one file, with a tokenizer."""
    output = tmp_path / "tiny"
    write_huggingface_directory(tiny_model("llama"), _tokenizer(), output)  # type: ignore[arg-type]  # a PreTrainedModel
    return output


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """The same in several files with an index."""
    output = tmp_path / "sharded"
    tiny_model("llama").save_pretrained(output, max_shard_size="150KB")  # type: ignore[operator]  # a PreTrainedModel
    return output


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = Tokenizer(models.BPE({"a": 0, "b": 1, "</s>": 2}, []))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # not annotated
        tokenizer_object=vocabulary, eos_token="</s>", chat_template="{{ messages[0].content }}"
    )
