"""Tests of checkpoints that are quantised already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import CheckpointError
from ptgc.exporters import export_checkpoint
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.ngram import NgramOptions
from tests.exporters.checkpoint.gguf_writing import logits
from tests.exporters.checkpoint.packed_writing import LAYOUTS, write_packed
from tests.models import greedy, prompt, tiny_model


def _edit_weights(directory: Path, **changes: torch.Tensor | None) -> None:
    file = directory / "model.safetensors"
    state = load_file(file) | {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, file, {"format": "pt"})


def _assert_same(loaded: Any, expected: Any) -> None:
    found = loaded.state_dict()
    assert found.keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_weights_become_the_numbers_that_they_stand_for(layout: str, tmp_path: Path) -> None:
    expected = write_packed(tmp_path, tiny_model("llama"), LAYOUTS[layout])
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.dtype == torch.float32
    assert checkpoint.packed is not None
    assert not hasattr(checkpoint.config, "quantization_config")
    loaded = checkpoint.load_model()
    _assert_same(loaded, expected)
    assert torch.allclose(logits(loaded), logits(expected), atol=1e-5)
    assert not hasattr(loaded.config, "quantization_config")
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert checkpoint.load_model(torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "qwen3_moe"])
@pytest.mark.parametrize("layout", ["gptq-4", "compressed-4-asymmetric"])
def test_transposed_matrices_biases_and_experts_come_through(family: str, layout: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    expected = write_packed(tmp_path, model, LAYOUTS[layout], skip=lambda name: name.endswith("gate"))
    _assert_same(open_checkpoint(tmp_path).load_model(), expected)


def test_what_is_not_quantised_comes_through(tmp_path: Path) -> None:
    model = tiny_model("mistral")  # its head is not tied
    expected = write_packed(tmp_path, model, LAYOUTS["awq"], skip=lambda name: ".0." in name or "down" in name)
    loaded: Any = open_checkpoint(tmp_path).load_model()
    _assert_same(loaded, expected)
    assert loaded.lm_head.weight.data_ptr() != loaded.get_input_embeddings().weight.data_ptr()


def test_tied_head_stays_tied(tmp_path: Path) -> None:
    write_packed(tmp_path, tiny_model("llama"), LAYOUTS["gptq-4"])
    loaded: Any = open_checkpoint(tmp_path).load_model()
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()


def test_tensors_of_one_module_may_lie_in_several_files(tmp_path: Path) -> None:
    expected = write_packed(tmp_path, tiny_model("llama"), LAYOUTS["gptq-4"])
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    places = {name: f"model-0000{index % 3 + 1}-of-00003.safetensors" for index, name in enumerate(sorted(state))}
    for file in set(places.values()):
        save_file({name: state[name] for name in state if places[name] == file}, tmp_path / file, {"format": "pt"})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    _assert_same(open_checkpoint(tmp_path).load_model(), expected)


def test_biases_of_zeros_that_the_architecture_lacks_are_left_out(tmp_path: Path) -> None:
    expected = write_packed(tmp_path, tiny_model("llama"), LAYOUTS["gptq-4"])
    name = "model__layers__1__mlp__up_proj__bias"
    _edit_weights(tmp_path, **{name: torch.zeros(96, dtype=torch.float16)})
    _assert_same(open_checkpoint(tmp_path).load_model(), expected)
    _edit_weights(tmp_path, **{name: torch.ones(96, dtype=torch.float16)})
    with pytest.raises(CheckpointError, match=r"unexpected: model\.layers\.1\.mlp\.up_proj\.bias"):
        open_checkpoint(tmp_path).load_model()


def test_settings_of_older_packages_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    layout = LAYOUTS["gptq-4"]
    expected = write_packed(tmp_path, tiny_model("llama"), layout, quantization_config=None)
    settings = {name: value for name, value in layout.settings.items() if name != "quant_method"}
    (tmp_path / "quantize_config.json").write_text(json.dumps(settings))
    checkpoint = open_checkpoint(tmp_path)
    assert "quantize_config.json" in checkpoint.hashes()
    _assert_same(checkpoint.load_model(), expected)
    (tmp_path / "quantize_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"quantize_config\.json.*not JSON"):
        open_checkpoint(tmp_path)


def test_generation_settings_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    write_packed(tmp_path, tiny_model("llama"), LAYOUTS["gptq-4"])
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    generation = open_checkpoint(tmp_path).load_model().generation_config
    assert generation is not None
    assert generation.eos_token_id == [5, 6]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "'bitsandbytes'; of methods, gptq, awq, compressed"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "'fp8'"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "'modelopt'"),
        ({"bits": 4}, "'None'"),
        ("int4", "does not describe"),
    ],
)
def test_other_methods_are_refused_by_name(settings: object, message: str, tmp_path: Path) -> None:
    write_packed(tmp_path, tiny_model("llama"), LAYOUTS["gptq-4"], quantization_config=settings)
    with pytest.raises(CheckpointError, match=message) as raised:
        open_checkpoint(tmp_path)
    assert "--precision int4 --calibration" in raised.value.action


def test_integers_that_nothing_explains_are_an_error(tmp_path: Path) -> None:
    write_packed(tmp_path, tiny_model("llama"), LAYOUTS["compressed-int8"])
    _edit_weights(tmp_path, model__layers__0__mlp__up_proj__weight_scale=None)
    with pytest.raises(CheckpointError, match=r"'model\.layers\.0\.mlp\.up_proj\.weight' is torch.int8, but nothing"):
        open_checkpoint(tmp_path).load_model()


def test_a_layer_that_is_missing_is_an_error(tmp_path: Path) -> None:
    write_packed(tmp_path, tiny_model("llama"), LAYOUTS["gptq-4"])
    parts = ("qweight", "qzeros", "scales", "g_idx")
    _edit_weights(tmp_path, **{f"model__layers__0__mlp__up_proj__{part}": None for part in parts})
    with pytest.raises(CheckpointError, match=r"missing: model\.layers\.0\.mlp\.up_proj\.weight"):
        open_checkpoint(tmp_path).load_model()


@pytest.mark.parametrize("layout", ["gptq-4", "awq", "compressed-4-asymmetric"])
def test_a_bundle_writes_what_the_weights_write_in_pytorch(layout: str, tmp_path: Path) -> None:
    expected = write_packed(tmp_path / "packed", tiny_model("llama"), LAYOUTS[layout])
    bundle = export_checkpoint(tmp_path / "packed", tmp_path / "bundle", NgramOptions())
    assert open_bundle(bundle).manifest.provenance["quantization"] == {
        "method": LAYOUTS[layout].settings["quant_method"],
        "schemes": [{"bits": 4, "group_size": 32, "symmetric": layout == "gptq-4"}],
    }
    build(bundle, BuildOptions(precision="float32", stage=Stage.PREPARE, max_length=128, build_id="made"))
    ids = prompt(24)
    with Generator(bundle, build="made") as generator:
        found = generator.generate(ids, max_new_tokens=64, ignore_eos=True)
    assert list(found.token_ids) == greedy(expected, ids, 64)
