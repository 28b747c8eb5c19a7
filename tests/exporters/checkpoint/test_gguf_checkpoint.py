"""Tests of reading configuration, weights and tokenizer out of GGUF files."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint
from ptgc.exporters.checkpoint.gguf_checkpoint import load_model, read_config
from ptgc.exporters.checkpoint.gguf_file import read_gguf_file
from ptgc.exporters.checkpoint.gguf_tokenizer import load_tokenizer
from ptgc.exporters.generation_settings import generation_settings
from tests.exporters.checkpoint.gguf_writing import logits, write_empty, write_model, write_vocabulary
from tests.models import tiny_model

_FAMILIES = ("llama", "qwen2", "qwen3", "gpt2")
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _llama3_model() -> LlamaForCausalLM:
    config: Any = copy.deepcopy(tiny_model("llama").config)
    config.rope_parameters = dict(_LLAMA3)
    torch.manual_seed(1)
    return LlamaForCausalLM(config)


def _llama3_factors(model: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    plain = 500000.0 ** -(np.arange(0, 16, 2) / 16)
    factors: np.ndarray[Any, np.dtype[np.float32]] = plain / model.model.rotary_emb.inv_freq.numpy()
    return factors.astype(np.float32)


@pytest.mark.parametrize("family", _FAMILIES)
def test_model_computes_what_the_converted_model_computes(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    checkpoint = open_checkpoint(write_model(tmp_path / "tiny.gguf", model))
    loaded = checkpoint.load_model()
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert torch.allclose(logits(loaded), logits(model), atol=1e-4)
    assert loaded.dtype == torch.float32
    assert loaded.config._attn_implementation == "eager"


@pytest.mark.parametrize("family", _FAMILIES)
def test_quantised_weights_are_close_and_float32(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    path = write_model(tmp_path / "tiny.gguf", model, quantization=gguf.GGMLQuantizationType.Q8_0)
    loaded = open_checkpoint(path).load_model()
    for name, parameter in loaded.named_parameters():
        expected = model.get_parameter(name).detach()
        assert torch.allclose(parameter, expected, atol=float(expected.abs().max()) / 127), name


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        (gguf.GGMLQuantizationType.F16, torch.float16),
        (gguf.GGMLQuantizationType.BF16, torch.bfloat16),
        (gguf.GGMLQuantizationType.Q4_0, torch.float32),
    ],
)
def test_weights_keep_a_floating_point_type_of_the_file(
    quantization: gguf.GGMLQuantizationType, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = copy.deepcopy(tiny_model("llama")).to(dtype)
    checkpoint = open_checkpoint(write_model(tmp_path / "a.gguf", model, quantization=quantization))
    assert checkpoint.dtype == dtype
    assert checkpoint.load_model().dtype == dtype
    assert checkpoint.load_model(torch.float64).dtype == torch.float64


def test_numbers_of_the_configuration_are_those_that_were_meant(tmp_path: Path) -> None:
    fields = {"attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.eos_token_id": 2}
    file = read_gguf_file(write_model(tmp_path / "tiny.gguf", tiny_model("llama"), fields=fields))
    config = read_config(file)
    assert config.rms_norm_eps == 1e-5
    assert (config.eos_token_id, config.bos_token_id) == (2, None)
    assert config.architectures == ["LlamaForCausalLM"]


def test_end_of_turn_token_also_ends_generation(tmp_path: Path) -> None:
    fields = {"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.eot_token_id": 7}
    file = read_gguf_file(write_model(tmp_path / "tiny.gguf", tiny_model("llama"), fields=fields))
    generation = load_model(file, read_config(file)).generation_config
    assert generation is not None
    assert generation.eos_token_id == [2, 7]


def test_head_that_repeats_the_embedding_is_tied(tmp_path: Path) -> None:
    model = tiny_model("gpt2")
    head = model.get_parameter("transformer.wte.weight").detach().numpy()
    file = read_gguf_file(write_model(tmp_path / "tiny.gguf", model, extra={"output.weight": head}))
    assert read_config(file).tie_word_embeddings
    other = read_gguf_file(write_model(tmp_path / "other.gguf", model, extra={"output.weight": head + 1}))
    assert not read_config(other).tie_word_embeddings
    assert torch.equal(load_model(other, read_config(other)).lm_head.weight, torch.from_numpy(head + 1))


def test_rotary_factors_of_llama_3_are_recognised(tmp_path: Path) -> None:
    model = _llama3_model()
    extra = {"rope_freqs.weight": _llama3_factors(model)}
    checkpoint = open_checkpoint(write_model(tmp_path / "tiny.gguf", model, extra=extra))
    assert checkpoint.config.rope_parameters == _LLAMA3
    assert torch.allclose(logits(checkpoint.load_model()), logits(model), atol=1e-5)


def test_linear_rotary_scaling_is_read(tmp_path: Path) -> None:
    fields = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
    config = read_config(read_gguf_file(write_model(tmp_path / "a.gguf", tiny_model("llama"), fields=fields)))
    assert config.rope_parameters == {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}


def test_vectors_that_a_narrower_type_would_round_keep_their_values(tmp_path: Path) -> None:
    model = tiny_model("llama")
    path = write_model(tmp_path / "a.gguf", model, quantization=gguf.GGMLQuantizationType.F16)
    loaded = open_checkpoint(path).load_model()
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.get_parameter("model.norm.weight"), model.get_parameter("model.norm.weight"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}, "scaled by 'longrope'"),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0, "rope.scaling.yarn_beta_fast": 8.0}, "yarn_beta"),
        ({"attention.causal": False}, "later tokens"),
        ({"expert_count": 8}, "mixture of experts"),
        ({"attention.value_length": 8}, "unequal heads"),
        ({"rope.dimension_count": 8}, "partial rotary"),
        ({"attention.head_count_kv": [1, 2, 2]}, "attention.head_count_kv"),
        ({"embedding_length": 32}, "its fields say"),
    ],
)
def test_what_cannot_be_converted_is_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf", tiny_model("llama"), fields=fields)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path).load_model()


def test_unknown_rotary_factors_are_refused(tmp_path: Path) -> None:
    extra = {"rope_freqs.weight": np.linspace(1, 8, 8, dtype=np.float32)}
    path = write_model(tmp_path / "tiny.gguf", tiny_model("llama"), extra=extra)
    with pytest.raises(CheckpointError, match=r"unlike Llama 3\.1"):
        open_checkpoint(path)


def test_tensor_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    extra = {"blk.0.attn_sinks.weight": np.ones(4, np.float32)}
    checkpoint = open_checkpoint(write_model(tmp_path / "tiny.gguf", tiny_model("llama"), extra=extra))
    with pytest.raises(CheckpointError, match=r"blk\.0\.attn_sinks\.weight"):
        checkpoint.load_model()


def test_missing_field_and_missing_tensor_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'llama\.attention\.head_count' is missing"):
        read_config(read_gguf_file(write_empty(tmp_path / "empty.gguf", "llama")))
    fields = {"block_count": 4}
    checkpoint = open_checkpoint(write_model(tmp_path / "a.gguf", tiny_model("llama"), fields=fields))
    with pytest.raises(CheckpointError, match=r"model\.layers\.3\.self_attn\.q_proj\.weight"):
        checkpoint.load_model()


@pytest.mark.parametrize("name", ["bert", "gemma3", "mamba"])
def test_other_architectures_are_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"'{name}'.*llama, qwen2, qwen3, gpt2"):
        open_checkpoint(write_empty(tmp_path / "other.gguf", name))


def test_file_without_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    assert load_tokenizer(read_gguf_file(write_empty(tmp_path / "a.gguf", "llama"))) is None


_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_PIECES = ["<unk>", "<s>", "</s>", *_BYTES, "▁", "a", "b", "▁a", "ab", "▁ab", "<tool>"]
_SENTENCEPIECE = {
    "ggml.model": "llama",
    "ggml.tokens": _PIECES,
    "ggml.scores": [0.0] * 262 + [-1.0, -2.0, -3.0, 0.0],
    "ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * 6, 4],
    "ggml.bos_token_id": 1,
    "ggml.eos_token_id": 2,
    "ggml.unknown_token_id": 0,
    "chat_template": "{{ messages[0]['content'] }}",
}


def test_sentencepiece_tokenizer_has_its_tokens_and_template(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(read_gguf_file(write_vocabulary(tmp_path / "a.gguf", "llama", _SENTENCEPIECE)))
    assert tokenizer is not None
    assert tokenizer("ab a").tokens() == ["<s>", "▁ab", "▁a"]
    assert tokenizer("b\n<tool></s>").tokens() == ["<s>", "▁", "b", "<0x0A>", "<tool>", "</s>"]
    assert tokenizer.decode(tokenizer("ab é").input_ids, skip_special_tokens=True) == "ab é"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    conversation = [{"role": "user", "content": "b"}]
    assert tokenizer.apply_chat_template(conversation, tokenize=False) == "b"


_LETTERS = sorted({"a", "b", "Ġ", "1", "Ã", "©", "Ċ"})
_BYTE_LEVEL = {
    "ggml.model": "gpt2",
    "ggml.tokens": [*_LETTERS, "ab", "Ġab", "ĠĠ", "11", "<|end|>"],
    "ggml.token_type": [1] * 11 + [3],
    "ggml.merges": ["a b", "Ġ ab", "Ġ Ġ", "1 1"],
    "ggml.eos_token_id": 11,
}


@pytest.mark.parametrize(
    ("cut", "tokens"),
    [
        ("gpt-2", ["ab", "Ġ", "Ġab", "11", "<|end|>"]),
        ("qwen2", ["ab", "Ġ", "Ġab", "1", "1", "<|end|>"]),
        ("llama-bpe", ["ab", "Ġ", "Ġab", "11", "<|end|>"]),
        ("smollm", ["ab", "Ġ", "Ġab", "1", "1", "<|end|>"]),
    ],
)
def test_byte_level_text_is_cut_as_the_vocabulary_asks(cut: str, tokens: list[str], tmp_path: Path) -> None:
    fields = {**_BYTE_LEVEL, "ggml.pre": cut, "ggml.add_bos_token": False}
    tokenizer = load_tokenizer(read_gguf_file(write_vocabulary(tmp_path / "a.gguf", "qwen2", fields)))
    assert tokenizer is not None
    assert tokenizer("ab  ab11<|end|>").tokens() == tokens
    assert tokenizer.decode(tokenizer("ab éb").input_ids) == "ab éb"


def test_spaces_before_a_digit_stay_together_in_smollm(tmp_path: Path) -> None:
    fields = {**_BYTE_LEVEL, "ggml.pre": "smollm"}
    tokenizer = load_tokenizer(read_gguf_file(write_vocabulary(tmp_path / "a.gguf", "llama", fields)))
    assert tokenizer is not None
    assert tokenizer("a  1").tokens() == ["a", "ĠĠ", "1"]


_SAME_TEXT = {**_BYTE_LEVEL, "ggml.tokens": ["a", "a"], "ggml.eos_token_id": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**_BYTE_LEVEL, "ggml.pre": "klingon"}, "'klingon'"),
        ({**_BYTE_LEVEL, "ggml.model": "t5"}, "'t5'"),
        ({**_BYTE_LEVEL, "ggml.merges": ["a z"]}, "inconsistent"),
        ({**_BYTE_LEVEL, "ggml.eos_token_id": 99}, "eos token is 99"),
        ({**_SAME_TEXT, "ggml.token_type": [1, 1]}, "same text"),
        ({**_SENTENCEPIECE, "ggml.scores": [0.0]}, "1 entries for 266 tokens"),
        ({"ggml.model": "llama"}, r"'tokenizer\.ggml\.tokens' is missing"),
    ],
)
def test_vocabulary_that_would_give_wrong_tokens_is_refused(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = read_gguf_file(write_vocabulary(tmp_path / "a.gguf", "llama", fields))
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer(file)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.999])
def test_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf", tiny_model("llama"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="truncated"):
        open_checkpoint(path)


def test_truncated_file_names_both_sizes(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf", tiny_model("llama"))
    content = path.read_bytes()
    path.write_bytes(content[:-4096])
    with pytest.raises(CheckpointError, match=rf"announces \d+ bytes, it has {len(content) - 4096}"):
        read_gguf_file(path)


@pytest.mark.parametrize("content", [b"", b"GGU", b"hello, world", b"GGUF", b"GGUF" + b"\xff" * 64])
def test_what_is_no_gguf_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.gguf"):
        open_checkpoint(path)


@pytest.mark.parametrize("position", range(4, 1200, 7))
def test_damaged_header_ends_in_no_other_error(position: int, tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf", tiny_model("gpt2"))
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        ({}, [1, 0]),
        ({"tokenizer.ggml.eot_token_id": 4, "tokenizer.ggml.eom_token_id": 5}, [1, 0, 4, 5]),
        ({"tokenizer.ggml.eos_token_id": 3}, [3, 0, 1]),
        ({"tokenizer.ggml.fim_sep_token_id": 6}, [1, 0, 6]),
    ],
)
def test_every_token_that_llama_cpp_ends_with_ends_texts(
    fields: dict[str, Any], ends: list[int], tmp_path: Path
) -> None:
    texts = {0: "<|im_end|>", 1: "<|end_of_text|>", 2: "a"}
    tokens = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": [texts.get(index, f"t{index}") for index in range(512)],
        "tokenizer.ggml.eos_token_id": 1,
    }
    path = write_model(tmp_path / "a.gguf", tiny_model("llama"), fields=tokens | fields)
    assert open_checkpoint(path).load_model().generation_config.eos_token_id == ends  # type: ignore[union-attr]


def test_recommended_sampling_and_suppressed_tokens_are_read(tmp_path: Path) -> None:
    file = read_gguf_file(write_model(tmp_path / "a.gguf", tiny_model("llama")))
    file.metadata.update({"general.sampling.temp": 0.6, "general.sampling.top_p": 0.95})
    file.metadata["tokenizer.ggml.suppress_tokens"] = [7, 9]
    settings = generation_settings(load_model(file, read_config(file)))
    assert settings.defaults.suppressed_token_ids == (7, 9)
    assert "--temperature 0.6 --top-p 0.95" in settings.notes[0]


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({"rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"rope.scale_linear": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, {"rope_type": "default"}),
        ({"rope.scaling.type": "linear"}, {"rope_type": "default"}),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 256},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
        ),
    ],
)
def test_rotary_scaling_that_is_left_out_is_linear(
    fields: dict[str, Any], parameters: dict[str, Any], tmp_path: Path
) -> None:
    found = open_checkpoint(write_model(tmp_path / "a.gguf", tiny_model("llama"), fields=fields)).config.rope_parameters
    assert {name: found[name] for name in parameters} == parameters


def test_yarn_of_a_file_computes_what_transformers_computes(tmp_path: Path) -> None:
    fields = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 256}
    path = write_model(tmp_path / "a.gguf", tiny_model("llama-yarn"), fields=fields)
    assert torch.allclose(logits(open_checkpoint(path).load_model()), logits(tiny_model("llama-yarn")), atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({"ggml.pre": "llama-bpe"}, ["b", "a"]),
        ({"ggml.pre": "tekken"}, ["b", "a"]),
        ({"ggml.pre": "llama-bpe", "ggml.add_bos_token": False}, ["a"]),
        ({"ggml.pre": "qwen2"}, ["a"]),
        ({"ggml.pre": "qwen2", "ggml.add_bos_token": True}, ["b", "a"]),
    ],
)
def test_some_cuts_put_a_first_token_before_texts(fields: dict[str, Any], first: list[str], tmp_path: Path) -> None:
    file = write_vocabulary(tmp_path / "a.gguf", "llama", {**_BYTE_LEVEL, **fields, "ggml.bos_token_id": 2})
    tokenizer = load_tokenizer(read_gguf_file(file), pytest.fail)
    assert tokenizer is not None
    assert tokenizer("a").tokens() == first


def test_ids_that_a_sentencepiece_vocabulary_leaves_out_are_llamas(tmp_path: Path) -> None:
    fields = {key: value for key, value in _SENTENCEPIECE.items() if not key.endswith("token_id")}
    tokenizer = load_tokenizer(read_gguf_file(write_vocabulary(tmp_path / "a.gguf", "llama", fields)))
    assert tokenizer is not None
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    assert tokenizer("ab").tokens() == ["<s>", "▁ab"]


def test_a_file_that_does_not_say_how_text_is_cut_is_noted_and_cut_by_default(tmp_path: Path) -> None:
    notes: list[str] = []
    fields = {**_BYTE_LEVEL, "ggml.tokens": [*_LETTERS, "ab", "Ġab", "ĠĠ", "11", "<|end|>", "111"]}
    fields |= {"ggml.token_type": [1] * 11 + [3, 1], "ggml.merges": ["a b", "Ġ ab", "Ġ Ġ", "1 1", "11 1"]}
    tokenizer = load_tokenizer(read_gguf_file(write_vocabulary(tmp_path / "a.gguf", "llama", fields)), notes.append)
    assert tokenizer is not None
    assert tokenizer("ab 1111").tokens() == ["ab", "Ġ", "111", "1"]  # digits are separate, in groups of three
    assert "tokenizer.ggml.pre is missing" in notes[0]
