"""Configuration and weights of a GGUF file in transformers' form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import gguf
import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.gguf_file import GgufFile
from ptgc.exporters.checkpoint.gguf_special_tokens import read_special_tokens
from ptgc.exporters.checkpoint.huggingface_directory import causal_model_class, model_from_state_dict
from ptgc.exporters.checkpoint.safetensors_files import keeps_values

_Value = TypeVar("_Value", int, float)
_Array = npt.NDArray[np.float32]
_EMBEDDING, _HEAD, _ROPE_FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"
_SAMPLING = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
_STORED_DTYPES = {
    gguf.GGMLQuantizationType.F16: torch.float16,
    gguf.GGMLQuantizationType.BF16: torch.bfloat16,
}
# Llama 3.1 stretches its rotary wavelengths by these; a GGUF file holds only the resulting factors.
_LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def read_config(file: GgufFile) -> PreTrainedConfig:
    """Build the transformers configuration that a GGUF file describes.

    Raises:
        CheckpointError: The architecture cannot be converted, or a field is missing.
    """
    name = _architecture(file)
    fields = _Fields(file, name)
    if fields.number("expert_count", int, 0):
        raise _unsupported(file, f"'{name}' with a mixture of experts")
    if not file.metadata.get(f"{name}.attention.causal", True):
        raise _unsupported(file, f"'{name}' with attention to later tokens")
    config = _ARCHITECTURES[name].config(fields)
    special = read_special_tokens(file)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = special.bos, special.eos, special.padding
    config.architectures = [causal_model_class(config).__name__]
    config.dtype = stored_dtype(file)
    return config


def stored_dtype(file: GgufFile) -> torch.dtype:
    """Return the type of all matrices; float32 if they are quantised or if that type would round vectors."""
    types = {tensor.type for tensor in file.tensors.values() if len(tensor.shape) > 1}
    dtype = _STORED_DTYPES.get(types.pop(), torch.float32) if len(types) == 1 else torch.float32
    vectors = [name for name, tensor in file.tensors.items() if len(tensor.shape) == 1 and name != _ROPE_FACTORS]
    keeps = all(keeps_values(torch.from_numpy(file.dequantize(name)), dtype) for name in vectors)
    return dtype if keeps else torch.float32


def load_model(file: GgufFile, config: PreTrainedConfig, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Dequantise every tensor into a transformers model, one tensor at a time.

    Args:
        file: The GGUF file.
        config: The result of `read_config`.
        dtype: Type of the weights; by default that of the file, float32 if it is quantised.

    Raises:
        CheckpointError: The tensors do not fit the architecture.
    """
    dtype = dtype or stored_dtype(file)
    names = _tensor_names(file, config)
    state_dict = {
        name: torch.from_numpy(_read_tensor(file, stored, config)).to(dtype) for name, stored in names.items()
    }
    model = model_from_state_dict(config, state_dict, dtype)
    if model.generation_config is not None:
        _set_generation(file, model.generation_config)
    return model


def _set_generation(file: GgufFile, settings: GenerationConfig) -> None:
    """Apply the file's settings for generation: end tokens, suppressed tokens and sampling."""
    ends = list(read_special_tokens(file).ends)
    settings.eos_token_id = ends if len(ends) > 1 else next(iter(ends), None)
    suppressed = file.metadata.get("tokenizer.ggml.suppress_tokens")
    if isinstance(suppressed, list):
        settings.suppress_tokens = [int(token) for token in suppressed]
    sampling = {name: file.metadata.get(f"general.sampling.{key}") for name, key in _SAMPLING.items()}
    given = {name: _shortest(value) for name, value in sampling.items() if isinstance(value, int | float)}
    if given:
        settings.update(do_sample=True, **{"temperature": 1.0, "top_k": 0, **given})  # type: ignore[no-untyped-call]


def _tensor_names(file: GgufFile, config: PreTrainedConfig) -> dict[str, str]:
    """Map the parameter names of transformers to those in the file; none may be left over on either side."""
    with torch.device("meta"):
        state = causal_model_class(config)(config).state_dict()
    name_map = gguf.get_tensor_name_map(_ARCHITECTURES[_architecture(file)].tensors, config.num_hidden_layers)
    names: dict[str, str] = {}
    for name, parameter in state.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stored = name_map.get_name(name, try_suffixes=(".weight", ".bias"))
        if stored not in file.tensors:
            raise _misfit(file, f"the tensor for '{name}' ('{stored}') is missing")
        names[name] = stored
        shape = _read_shape(file, stored)
        if shape != tuple(parameter.shape):
            raise _misfit(file, f"'{stored}' is {list(shape)}, its fields say {list(parameter.shape)}")
    unread = sorted(file.tensors.keys() - set(names.values()) - {_ROPE_FACTORS, _HEAD})
    if unread:
        unused = ", ".join(unread[:8])
        raise _misfit(file, f"it has tensors that '{_architecture(file)}' does not use: {unused}")
    return names


def _read_tensor(file: GgufFile, stored: str, config: PreTrainedConfig) -> _Array:
    """Read one tensor with its rows in the order that transformers expects."""
    values = file.dequantize(stored)
    if _is_transposed(file, stored):
        return np.ascontiguousarray(values.T)
    if _architecture(file) == "llama" and ".attn_q." in stored:
        return _unpermute(values, config.num_attention_heads)
    if _architecture(file) == "llama" and ".attn_k." in stored:
        return _unpermute(values, config.num_key_value_heads)
    return values


def _unpermute(rows: _Array, num_heads: int) -> _Array:
    """Undo the row order of GGUF's llama, which is 0, d/2, 1, d/2 + 1, ... in each head."""
    split = rows.reshape(num_heads, rows.shape[0] // num_heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(rows.shape)


def _is_transposed(file: GgufFile, stored: str) -> bool:
    """Whether the tensor is a matrix of GPT-2, which transformers stores as [in, out]."""
    matrices = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
    return _architecture(file) == "gpt2" and stored.endswith(matrices)


def _read_shape(file: GgufFile, stored: str) -> tuple[int, ...]:
    shape = file.tensors[stored].shape
    return shape[::-1] if _is_transposed(file, stored) else shape


class _Fields:
    """The fields of one architecture in the metadata of a GGUF file."""

    def __init__(self, file: GgufFile, architecture: str) -> None:
        self.file = file
        self.architecture = architecture

    def number(self, name: str, kind: type[_Value], default: _Value | None = None) -> _Value:
        """Return a field; a list is refused, since layers of different shapes cannot be converted."""
        key = f"{self.architecture}.{name}"
        value = self.file.metadata.get(key, default)
        if value is None:
            raise _misfit(self.file, f"the field '{key}' is missing")
        if not isinstance(value, int | float):
            raise _unsupported(self.file, f"'{self.architecture}' with '{key}' = {str(value)[:60]}")
        return kind(value) if kind is int else kind(_shortest(value))

    def vocab_size(self) -> int:
        if _EMBEDDING not in self.file.tensors:
            raise _misfit(self.file, f"the tensor '{_EMBEDDING}' is missing")
        return self.file.tensors[_EMBEDDING].shape[0]

    def is_tied(self) -> bool:
        """Whether the head is the embedding: it is missing, or repeats the embedding byte for byte."""
        tensors = self.file.tensors
        if _HEAD not in tensors:
            return True
        embedding, head = tensors.get(_EMBEDDING), tensors[_HEAD]
        if embedding is None or (head.shape, head.type) != (embedding.shape, embedding.type):
            return False
        first, second = (
            np.memmap(self.file.path, np.uint8, "r", tensor.offset, tensor.num_bytes) for tensor in (embedding, head)
        )
        return bool(np.array_equal(first, second))

    def head_dim(self) -> int:
        heads = self.number("attention.head_count", int)
        default = self.number("embedding_length", int) // max(heads, 1)
        size = self.number("attention.key_length", int, default)
        rotary = self.number("rope.dimension_count", int, size)
        if self.number("attention.value_length", int, default) != size or rotary != size:
            raise _unsupported(self.file, f"'{self.architecture}' with unequal heads or partial rotary positions")
        return size

    def rope_parameters(self) -> dict[str, str | float | int]:
        theta = self.number("rope.freq_base", float, 10000.0)
        scaling = self.file.metadata.get(f"{self.architecture}.rope.scaling.type", "linear")
        factor = self.number("rope.scaling.factor", float, self.number("rope.scale_linear", float, 0.0))
        scales = scaling != "none" and factor not in (0.0, 1.0)
        if scaling not in ("none", "linear", "yarn"):
            raise _unsupported(self.file, f"'{self.architecture}' with rotary positions scaled by '{scaling}'")
        if _ROPE_FACTORS in self.file.tensors:
            if scales:
                raise _unsupported(self.file, f"'{self.architecture}' with rotary positions scaled twice")
            return self._llama3_rope(theta)
        if not scales:
            return {"rope_type": "default", "rope_theta": theta}
        parameters: dict[str, str | float | int] = {"rope_type": str(scaling), "rope_theta": theta, "factor": factor}
        return parameters if scaling == "linear" else parameters | self._yarn(factor)

    def _yarn(self, factor: float) -> dict[str, str | float | int]:
        """The other parameters of YaRN; llama.cpp's defaults are those of transformers."""
        prefix = f"{self.architecture}.rope.scaling.yarn_"
        others = [key for key in self.file.metadata if key.startswith(prefix)]
        if others:
            raise _unsupported(self.file, f"'{self.architecture}' with '{others[0]}'")
        original = self.number("rope.scaling.original_context_length", int, self.number("context_length", int))
        attention = self.number("rope.scaling.attn_factor", float, 1.0)
        return {
            "original_max_position_embeddings": original,
            "attention_factor": attention * (1.0 + 0.1 * math.log(factor)),
        }

    def _llama3_rope(self, theta: float) -> dict[str, str | float | int]:
        factors = self.file.dequantize(_ROPE_FACTORS)
        factor = round(float(factors.max()), 3)
        wavelengths = 2 * math.pi * theta ** (np.arange(len(factors)) / len(factors))
        low, high = _LLAMA3_ROPE["low_freq_factor"], _LLAMA3_ROPE["high_freq_factor"]
        smooth = (_LLAMA3_ROPE["original_max_position_embeddings"] / wavelengths - low) / (high - low)
        expected = 1 / ((1 - smooth.clip(0, 1)) / factor + smooth.clip(0, 1))
        if not np.allclose(factors, expected, rtol=1e-4):
            raise _unsupported(self.file, f"'{self.architecture}' with rotary factors unlike Llama 3.1's")
        return {"rope_type": "llama3", "rope_theta": theta, "factor": factor, **_LLAMA3_ROPE}


def _llama_config(fields: _Fields) -> PreTrainedConfig:
    tensors = fields.file.tensors
    return LlamaConfig(
        **_decoder_settings(fields),
        attention_bias="blk.0.attn_q.bias" in tensors,
        mlp_bias="blk.0.ffn_up.bias" in tensors,
    )


def _qwen2_config(fields: _Fields) -> PreTrainedConfig:
    return Qwen2Config(**_decoder_settings(fields))


def _qwen3_config(fields: _Fields) -> PreTrainedConfig:
    return Qwen3Config(**_decoder_settings(fields))


def _decoder_settings(fields: _Fields) -> dict[str, Any]:
    """Return the fields that the configurations of Llama and Qwen have in common."""
    heads = fields.number("attention.head_count", int)
    return {
        "vocab_size": fields.vocab_size(),
        "hidden_size": fields.number("embedding_length", int),
        "intermediate_size": fields.number("feed_forward_length", int),
        "num_hidden_layers": fields.number("block_count", int),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.number("attention.head_count_kv", int, heads),
        "head_dim": fields.head_dim(),
        "max_position_embeddings": fields.number("context_length", int),
        "rms_norm_eps": fields.number("attention.layer_norm_rms_epsilon", float),
        "rope_parameters": fields.rope_parameters(),
        "tie_word_embeddings": fields.is_tied(),
    }


def _gpt2_config(fields: _Fields) -> PreTrainedConfig:
    return GPT2Config(
        vocab_size=fields.vocab_size(),
        n_embd=fields.number("embedding_length", int),
        n_inner=fields.number("feed_forward_length", int),
        n_layer=fields.number("block_count", int),
        n_head=fields.number("attention.head_count", int),
        n_positions=fields.number("context_length", int),
        layer_norm_epsilon=fields.number("attention.layer_norm_epsilon", float),
        tie_word_embeddings=fields.is_tied(),
    )


@dataclass(frozen=True)
class _Architecture:
    tensors: gguf.MODEL_ARCH
    config: Callable[[_Fields], PreTrainedConfig]


_ARCHITECTURES = {
    "llama": _Architecture(gguf.MODEL_ARCH.LLAMA, _llama_config),  # also Mistral
    "qwen2": _Architecture(gguf.MODEL_ARCH.QWEN2, _qwen2_config),
    "qwen3": _Architecture(gguf.MODEL_ARCH.QWEN3, _qwen3_config),
    "gpt2": _Architecture(gguf.MODEL_ARCH.GPT2, _gpt2_config),
}


def _architecture(file: GgufFile) -> str:
    name = str(file.metadata.get("general.architecture"))
    if name not in _ARCHITECTURES:
        raise _unsupported(file, f"'{name}'")
    return name


def _shortest(value: float) -> float:
    """Return the shortest decimal of a float32 field: 1e-5 would otherwise read 9.99999974e-06."""
    return float(str(np.float32(value)))


def _unsupported(file: GgufFile, what: str) -> CheckpointError:
    return CheckpointError(
        f"Cannot read '{file.path}': the architecture is {what}; "
        f"GGUF files can be read for {', '.join(_ARCHITECTURES)} (Mistral is written as llama).",
        "Use the safetensors checkpoint of this model.",
    )


def _misfit(file: GgufFile, what: str) -> CheckpointError:
    return CheckpointError(
        f"Cannot read '{file.path}': {what}.",
        "Convert the model to GGUF again, or use its safetensors checkpoint.",
    )
