"""Tests of opening checkpoints, and of every way in which one can be wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, dynamic_module_utils

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint
from ptgc.exporters.checkpoint.task import Task
from tests.exporters.checkpoint.gguf_writing import logits, write_model
from tests.models import tiny_model


def _edit(directory: Path, **changes: Any) -> Path:
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return directory


def test_single_file_loads_as_it_was_saved(directory: Path) -> None:
    checkpoint = open_checkpoint(str(directory))
    assert (checkpoint.source, checkpoint.directory) == (str(directory), directory)
    assert checkpoint.weight_files == (directory / "model.safetensors",)
    assert checkpoint.weight_bytes == (directory / "model.safetensors").stat().st_size
    assert (checkpoint.revision, checkpoint.gguf_file) == (None, None)
    model = checkpoint.load_model()
    assert torch.allclose(logits(model), logits(tiny_model("llama")), atol=1e-4)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config._attn_implementation == "eager"


def test_shards_load_as_they_were_saved(shards: Path) -> None:
    checkpoint = open_checkpoint(shards)
    assert len(checkpoint.weight_files) > 2
    assert torch.allclose(logits(checkpoint.load_model()), logits(tiny_model("llama")), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_the_one_of_the_file_whatever_the_configuration_says(directory: Path, dtype: torch.dtype) -> None:
    file = directory / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    checkpoint = open_checkpoint(_edit(directory, dtype="float64"))
    assert checkpoint.dtype == dtype
    assert checkpoint.load_model().dtype == dtype
    assert checkpoint.load_model(torch.float64).dtype == torch.float64


def test_tokenizer_is_loaded_where_there_is_one(directory: Path, shards: Path) -> None:
    tokenizer = open_checkpoint(directory).load_tokenizer()
    assert tokenizer is not None
    assert tokenizer.chat_template == "{{ messages[0].content }}"
    assert tokenizer("ab").input_ids == [0, 1]
    assert open_checkpoint(shards).load_tokenizer() is None


def test_damaged_tokenizer_is_an_error(directory: Path) -> None:
    (directory / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="Cannot load the checkpoint"):
        open_checkpoint(directory).load_tokenizer()


def test_hashes_cover_weights_and_what_describes_them(directory: Path) -> None:
    (directory / "README.md").write_text("not of interest")
    hashes = open_checkpoint(directory).hashes()
    assert set(hashes) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert hashes["config.json"] == hashlib.sha256((directory / "config.json").read_bytes()).hexdigest()


def test_directory_with_one_gguf_file_is_that_file(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf", tiny_model("llama"))
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.gguf_file == path
    assert checkpoint.weight_files == (path,)
    assert set(checkpoint.hashes()) == {"tiny.gguf"}
    assert checkpoint.load_tokenizer() is None


def test_several_gguf_files_are_named(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write_model(tmp_path / name, tiny_model("llama"))
    with pytest.raises(CheckpointError, match=r"2 GGUF files: a\.gguf, b\.gguf"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["nowhere/at/all", "./nowhere", "nowhere.gguf", "~nobody/model"])
def test_missing_path_is_an_error(name: str) -> None:
    with pytest.raises(CheckpointError, match="no such path"):
        open_checkpoint(name)
    with pytest.raises(CheckpointError, match="no such path"):
        open_checkpoint(Path(name))


def test_empty_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="directory is empty"):
        open_checkpoint(tmp_path)


def test_directory_without_configuration_is_an_error(directory: Path) -> None:
    (directory / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        open_checkpoint(directory)


def test_adapter_is_told_to_be_merged(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="merge_and_unload"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_configuration_that_is_no_json_object_is_an_error(directory: Path, text: str) -> None:
    (directory / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json.*JSON"):
        open_checkpoint(directory)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickled_weights_are_refused_and_not_opened(directory: Path, name: str) -> None:
    (directory / "model.safetensors").rename(directory / name)
    with pytest.raises(CheckpointError, match=rf"only pickled weights \({name}\)") as raised:
        open_checkpoint(directory)
    assert "save_pretrained" in raised.value.action
    with pytest.raises(CheckpointError, match="single file"):
        open_checkpoint(directory / name)


def test_weights_under_another_name_are_listed(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "consolidated.safetensors")
    with pytest.raises(CheckpointError, match=r"but consolidated\.safetensors"):
        open_checkpoint(directory)


@pytest.mark.parametrize("name", ["model.safetensors.incomplete", "model-2.safetensors.part", "x.gguf.crdownload"])
def test_unfinished_downloads_are_an_error(directory: Path, name: str) -> None:
    (directory / name).touch()
    with pytest.raises(CheckpointError, match=f"unfinished downloads: {name}"):
        open_checkpoint(directory)


_BERT = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)


def test_classifier_is_refused_by_its_architecture(tmp_path: Path) -> None:
    BertForSequenceClassification(_BERT).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"BertForSequenceClassification, is not a causal language model"):
        open_checkpoint(tmp_path)


def test_masked_language_model_is_known_by_its_architecture(tmp_path: Path) -> None:
    BertForMaskedLM(_BERT).save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.task is Task.MASKED_LM
    assert isinstance(checkpoint.load_model(), BertForMaskedLM)


def test_model_without_named_architecture_goes_by_its_type(directory: Path) -> None:
    assert open_checkpoint(_edit(directory, architectures=None)).load_model()
    with pytest.raises(CheckpointError, match="'vit', is not a causal"):
        open_checkpoint(_edit(directory, architectures=None, model_type="vit"))


def test_code_of_the_checkpoint_runs_only_when_trusted(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    witness = tmp_path / "code_ran"
    (directory / "configuration_odd.py").write_text(
        "from pathlib import Path\n"
        "from transformers import LlamaConfig\n"
        f"Path({str(witness)!r}).touch()\n"
        "class OddConfig(LlamaConfig):\n    model_type = 'odd'\n"
    )
    auto_map = {"AutoConfig": "configuration_odd.OddConfig", "AutoModelForCausalLM": "modeling_odd.OddModel"}
    _edit(directory, model_type="odd", auto_map=auto_map)
    with pytest.raises(CheckpointError, match=r"'odd'.*configuration_odd\.OddConfig") as raised:
        open_checkpoint(directory)
    assert "--trust-remote-code" in raised.value.action
    assert not witness.exists()
    checkpoint = open_checkpoint(directory, trust_remote_code=True)
    assert witness.exists()
    assert type(checkpoint.config).__name__ == "OddConfig"
    assert "configuration_odd.py" in checkpoint.hashes()


def test_code_that_is_not_needed_does_not_run(directory: Path) -> None:
    _edit(directory, auto_map={"AutoConfig": "missing.Config", "AutoModelForCausalLM": "missing.Model"})
    assert open_checkpoint(directory).load_model()


def test_unknown_model_type_is_an_error(directory: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model type 'odd' is not in transformers"):
        open_checkpoint(_edit(directory, model_type="odd"))


def test_configuration_with_impossible_values_is_an_error(directory: Path) -> None:
    with pytest.raises(CheckpointError, match="Cannot load the checkpoint"):
        open_checkpoint(_edit(directory, hidden_size="wide"))


def test_weights_of_another_configuration_are_an_error(directory: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lack \d+ tensors.*layers\.3"):
        open_checkpoint(_edit(directory, num_hidden_layers=5, layer_types=None)).load_model()
    with pytest.raises(CheckpointError, match="Cannot load the checkpoint"):
        open_checkpoint(_edit(directory, num_hidden_layers=3, intermediate_size=100)).load_model()


def test_local_path_has_no_revisions(directory: Path) -> None:
    with pytest.raises(CheckpointError, match=r"revision 'main'.*local path"):
        open_checkpoint(directory, revision="main")


def test_unreadable_directory_is_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied", str(directory))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CheckpointError, match="Permission denied"):
        open_checkpoint(directory)


def _edit_weights(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def test_tensors_of_another_shape_are_named_with_both(directory: Path) -> None:
    name = "model.norm.weight"
    _edit_weights(directory, lambda weights: weights.update({name: torch.ones(7)}))
    with pytest.raises(CheckpointError, match=r"of another shape: model\.norm\.weight is \[7\], .* says \[64\]"):
        open_checkpoint(directory).load_model()


def test_tensors_that_the_architecture_does_not_read_are_noted(directory: Path) -> None:
    _edit_weights(directory, lambda weights: weights.update({"model.other.weight": torch.ones(7)}))
    notes: list[str] = []
    open_checkpoint(directory).load_model(note=notes.append)
    assert notes == ["the architecture has no place for 1 tensors, unused: model.other.weight"]


@pytest.mark.parametrize(("value", "dtype"), [(1.0, torch.bfloat16), (1.001, torch.float32)])
def test_no_weight_is_rounded_to_the_type_of_the_others(value: float, dtype: torch.dtype, directory: Path) -> None:
    def mix(weights: dict[str, Any]) -> None:
        weights.update({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()})
        weights["model.norm.weight"] = torch.full((64,), value)

    _edit_weights(directory, mix)
    model = open_checkpoint(_edit(directory, dtype="bfloat16")).load_model()
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert torch.equal(model.get_parameter("model.norm.weight").float(), torch.full((64,), value))


def test_an_adapter_beside_the_weights_is_refused(directory: Path) -> None:
    (directory / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(CheckpointError, match="adapter_config") as raised:
        open_checkpoint(directory)
    assert "merge_and_unload" in raised.value.action
