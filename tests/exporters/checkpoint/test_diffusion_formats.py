"""Opening and loading diffusion language models by their published formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import AddedToken, Qwen2Tokenizer

from ptgc.errors import CheckpointError, ExportError, PtgcError
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint
from ptgc.exporters.checkpoint.task import Task
from ptgc.exporters.from_checkpoint import open_sources
from tests.diffusion_models import FORMATS, MASK, PlainModel
from tests.models import tiny_model
from tests.other_models import words

BIDIRECTIONAL = torch.ones(11, 11, dtype=torch.bool)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_a_published_model_is_loaded_without_its_code(name: str, trusted: bool, tmp_path: Path) -> None:
    plain = PlainModel(name)
    checkpoint = open_checkpoint(plain.write(tmp_path / "x"), trust_remote_code=trusted)
    assert checkpoint.task is Task.DIFFUSION_LM and not checkpoint.has_own_code
    assert checkpoint.dtype == torch.float32
    ids = torch.arange(11)
    model = checkpoint.load_model()
    found = model(input_ids=ids[None], attention_mask=BIDIRECTIONAL[None, None], use_cache=False).logits[0]
    torch.testing.assert_close(found, plain(ids, BIDIRECTIONAL), rtol=1e-4, atol=1e-4)


def test_half_precision_stays_and_heads_may_be_tied(tmp_path: Path) -> None:
    folder = PlainModel("llada").write(tmp_path / "x", weight_tying=True, n_kv_heads=2)
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    del weights["model.transformer.ff_out.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model: Any = open_checkpoint(folder).load_model()
    assert model.lm_head.weight is model.model.embed_tokens.weight and model.dtype == torch.bfloat16


def test_experts_are_loaded_as_transformers_stores_them(tmp_path: Path) -> None:
    folder, original = tmp_path / "x", tiny_model("qwen3_moe")
    original.save_pretrained(folder)
    _edit(folder, model_type="sdar_moe", architectures=["SDARMoeForCausalLM"])
    checkpoint = open_checkpoint(folder)
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(checkpoint.load_model()(input_ids=ids).logits, original(input_ids=ids).logits)
    assert checkpoint.diffusion is not None and checkpoint.diffusion.block_length == 4


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (
            "llada",
            {"alibi": True, "rope": False, "block_type": "sequential", "include_qkv_bias": True},
            ["alibi is True, only False", "rope is False", "'sequential', only 'llama'", "include_qkv_bias is True"],
        ),
        ("llada", {"activation_type": "swiglu", "layer_norm_type": "default"}, ["activation_type is", "'default'"]),
        ("llada", {"d_model": "wide"}, ["Cannot load the checkpoint"]),
        ("dream", {"use_sliding_window": True}, ["use_sliding_window is True", "Qwen2ForCausalLM"]),
        ("sdar", {"mask_token_id": "M", "block_size": -1}, ["mask_token_id is 'M'", "block_length is -1"]),
        (
            "a2d-llama",
            {"ptgc_diffusion": {"attention": "causal", "shift": 1, "blocks": 3}},
            ["attention is 'causal'", "shift is 1", "blocks is 3"],
        ),
        ("a2d-llama", {"ptgc_diffusion": "block"}, ["ptgc_diffusion is 'block'"]),
        ("llada", {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 8}}, ["quantised by awq"]),
    ],
)
def test_what_cannot_be_read_is_named(name: str, changes: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(PlainModel(name).write(tmp_path / "x", **changes))
    for text in said:
        assert text in raised.value.message


def test_settings_that_are_left_out_have_the_formats_defaults(tmp_path: Path) -> None:
    folder = PlainModel("llada").write(tmp_path / "x")
    settings = json.loads((folder / "config.json").read_text())
    for name in ("rope", "block_type", "activation_type"):
        del settings[name]
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"'swiglu'.*'sequential'.*rope is False"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["llada", "sdar"])
def test_missing_and_unexpected_tensors_are_all_named(name: str, tmp_path: Path) -> None:
    plain = PlainModel(name)
    norm = f"{plain.format.names['norm']}.weight"
    plain.tensors["model.transformer.blocks.0.k_norm.bias"] = plain.tensors.pop(norm)
    checkpoint = open_checkpoint(plain.write(tmp_path / "x"))
    with pytest.raises(CheckpointError, match=r"missing: model\.norm\.weight") as raised:
        checkpoint.load_model()
    assert "unexpected: model.transformer.blocks.0.k_norm.bias" in raised.value.message


def _edit(folder: Path, file: str = "config.json", **settings: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def _byte_level(folder: Path, **settings: Any) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Qwen2Tokenizer(vocab={one: index for index, one in enumerate(alphabet)}, merges=[])
    made.add_special_tokens({"mask_token": AddedToken("<|mask|>", special=True)})
    made.save_pretrained(folder)
    _edit(folder, "tokenizer_config.json", **settings)


@pytest.mark.parametrize("with_json", [False, True])
@pytest.mark.parametrize(
    ("name", "tokenizer_class", "code"),
    [("dream", "DreamTokenizer", "tokenization_dream"), ("sdar", "Qwen2Tokenizer", "tokenization_qwen2")],
)
def test_a_tokenizer_with_code_is_read_without_it(
    name: str, tokenizer_class: str, code: str, with_json: bool, tmp_path: Path
) -> None:
    folder = PlainModel(name).write(tmp_path / "x")
    auto_map = {"AutoTokenizer": [f"{code}.{tokenizer_class}", None]}
    _byte_level(folder, tokenizer_class=tokenizer_class, auto_map=auto_map)
    if not with_json:
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        (folder / "tokenizer.json").unlink()
    tokenizer: Any = open_checkpoint(folder).load_tokenizer()
    assert tokenizer.is_fast and tokenizer.mask_token_id == 257
    assert tokenizer.decode(tokenizer("It's a naïve cat.<|mask|>").input_ids) == "It's a naïve cat.<|mask|>"
    assert len(tokenizer("1234").input_ids) == 4


@pytest.mark.parametrize("name", ["llada", "a2d-llama"])
def test_other_tokenizers_are_read_as_transformers_reads_them(name: str, tmp_path: Path) -> None:
    folder = PlainModel(name).write(tmp_path / "x")
    words(60, mask_token="<mask>").save_pretrained(folder)
    tokenizer: Any = open_checkpoint(folder).load_tokenizer()
    assert tokenizer("w5 <mask> w7").input_ids == [5, 0, 7]


@pytest.mark.parametrize(
    ("name", "options", "strategy", "expected"),
    [
        ("llada", {}, "masked-diffusion", (MASK, 0, False)),
        ("llada", {"mask_token_id": 3, "block_length": 8}, "masked-diffusion", (3, 8, False)),
        ("dream", {"num_steps": 4}, "masked-diffusion", (MASK, 0, True)),
        ("sdar", {"num_steps": 4}, "block-diffusion", (MASK, 4, False)),
        ("sdar", {"block_length": 8}, "block-diffusion", (MASK, 8, False)),
        ("a2d-llama", {"mask_token_id": 5}, "masked-diffusion", (5, 0, False)),
        ("a2d-llama", {"mask_token_id": 5, "shift": True}, "masked-diffusion", (5, 0, True)),
        ("a2d-qwen2", {"mask_token_id": 5}, "masked-diffusion", (5, 0, True)),
        ("a2d-qwen3", {"mask_token_id": 5}, "block-diffusion", (5, 6, False)),
    ],
)
def test_a_checkpoint_chooses_its_strategy(
    name: str, options: dict[str, Any], strategy: str, expected: tuple[int, int, bool], tmp_path: Path
) -> None:
    sources = open_sources(PlainModel(name).write(tmp_path / "x"), options)
    canvas = sources.plan(None).canvas
    assert canvas is not None and sources.strategy.name == strategy
    assert (canvas.mask_token_id, canvas.block_length, canvas.shift) == expected


def test_the_table_knows_the_mask_tokens_of_formats_that_leave_them_out(tmp_path: Path) -> None:
    for name, expected in (("llada", 126336), ("dream", 151666), ("sdar", 151669)):
        folder = PlainModel(name).write(tmp_path / name, mask_token_id=None)
        canvas = open_sources(folder).plan(None).canvas
        assert canvas is not None and canvas.mask_token_id == expected
        named = open_sources(folder).plan(words(60, mask_token="<mask>")).canvas
        assert named is not None and named.mask_token_id == 0


@pytest.mark.parametrize(
    ("name", "strategy", "said", "offered"),
    [
        ("llada", "ngram", "diffusion language model with bidirectional attention; it cannot", "masked-diffusion."),
        ("llada", "block-diffusion", "it cannot generate by 'block-diffusion'", "masked-diffusion."),
        ("sdar", "masked-diffusion", "with block attention; it cannot generate by", "block-diffusion."),
        ("sdar", "autoregressive", "it cannot generate by 'autoregressive'", "block-diffusion."),
        ("a2d-llama", "ngram", "is a diffusion language model; it cannot", "masked-diffusion, block-diffusion."),
    ],
)
def test_a_strategy_that_needs_another_attention_is_refused(
    name: str, strategy: str, said: str, offered: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as raised:
        open_sources(PlainModel(name).write(tmp_path / "x"), strategy=strategy)
    assert said in raised.value.message and raised.value.action == f"Choose from: {offered}"


def test_a_causal_model_fills_no_canvas_and_a_diffusion_model_drafts_no_text(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "causal")
    for strategy in ("masked-diffusion", "block-diffusion"):
        with pytest.raises(ExportError, match="is a causal language model; it cannot generate by"):
            open_sources(tmp_path / "causal", strategy=strategy)
    drafter = PlainModel("a2d-llama").write(tmp_path / "x")
    with pytest.raises(ExportError, match="is a diffusion language model; a drafter is a causal language model"):
        open_sources(tmp_path / "causal", {"drafter": str(drafter)}, strategy="draft-model")


def _plan(folder: Path, **options: Any) -> Callable[[], object]:
    return lambda: open_sources(folder, options, strategy="block-diffusion").plan(None)


def test_what_neither_checkpoint_nor_options_say_is_asked_for(tmp_path: Path) -> None:
    plain = PlainModel("a2d-llama")
    with pytest.raises(ExportError, match="needs a mask token") as raised:
        open_sources(plain.write(tmp_path / "a")).plan(None)
    assert "--mask-token-id" in raised.value.action
    cases: list[tuple[Callable[[], object], str]] = [
        (_plan(tmp_path / "a", mask_token_id=5), "needs the length of a block"),
        (_plan(tmp_path / "a", block_length=4), "needs a mask token"),
        (
            _plan(plain.write(tmp_path / "b", ptgc_diffusion={"shift": True}), block_length=4, mask_token_id=5),
            "predicts the first position of a block by the last row",
        ),
        (_plan(tmp_path / "a", block_length=0, threshold=1.5), "--block-length is 0"),
    ]
    for make, said in cases:
        with pytest.raises(PtgcError, match=said):
            make()
