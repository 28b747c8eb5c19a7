"""Tests of building models from tensors and writing them as Hugging Face directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from ptgc.errors import CheckpointError, StorageError
from ptgc.exporters.checkpoint.huggingface_directory import (
    model_from_state_dict,
    storage_error,
    write_huggingface_directory,
)
from tests.exporters.checkpoint.gguf_writing import logits
from tests.models import tiny_model


def _rebuilt() -> PreTrainedModel:
    original: Any = tiny_model("llama")
    return model_from_state_dict(original.config, original.state_dict(), torch.float32)


def test_model_uses_the_given_tensors_themselves() -> None:
    original: Any = tiny_model("llama")
    state_dict = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    model = model_from_state_dict(original.config, state_dict, torch.float32)
    assert torch.allclose(logits(model), logits(original), atol=1e-4)
    embedding = model.get_parameter("model.embed_tokens.weight")
    assert embedding.data_ptr() == state_dict["model.embed_tokens.weight"].data_ptr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.norm.weight": None}, r"missing: model\.norm\.weight"),
        ({"other.weight": torch.ones(1)}, r"unexpected: other\.weight"),
        ({"model.norm.weight": torch.ones(7)}, r"of another shape: model\.norm\.weight is \[7\], .* says \[64\]"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    original: Any = tiny_model("llama")
    changed = {**original.state_dict(), **change}
    state_dict = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        model_from_state_dict(original.config, state_dict, torch.float32)


def test_directory_is_an_ordinary_one(tmp_path: Path) -> None:
    model = _rebuilt()
    model.generation_config = GenerationConfig(eos_token_id=[2, 1])  # type: ignore[no-untyped-call]  # not annotated
    output = tmp_path / "below" / "model"
    write_huggingface_directory(model, None, output)
    assert sorted(file.name for file in output.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert len({file.stat().st_mode for file in output.iterdir()}) == 1
    loaded: Any = AutoModelForCausalLM.from_pretrained(output)
    assert torch.allclose(logits(loaded), logits(model), atol=1e-4)
    assert loaded.generation_config.eos_token_id == [2, 1]
    assert json.loads((output / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_existing_directory_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="it exists"):
        write_huggingface_directory(_rebuilt(), None, tmp_path)


def test_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: PreTrainedModel, folder: Path, **_: Any) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    model = _rebuilt()
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", fail)
    with pytest.raises(StorageError, match="disk is full"):
        write_huggingface_directory(model, None, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_storage_error_says_what_the_system_said(tmp_path: Path) -> None:
    error = storage_error(tmp_path / "not" / "yet", PermissionError(13, "Permission denied"))
    assert "Permission denied" in error.message
