"""Writing tiny GGUF files as a converter makes them from a transformers model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch

_Array = npt.NDArray[np.float32]
_ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gpt2": gguf.MODEL_ARCH.GPT2,
}
_TRANSPOSED = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")


def write_model(
    path: Path,
    model: Any,
    *,
    quantization: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    extra: Mapping[str, npt.NDArray[Any]] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Path:
    """Write a transformers model as GGUF, with `extra` tensors and `fields` on top."""
    family = model.config.model_type
    writer = gguf.GGUFWriter(path, family)
    settings = {**_fields(model.config), **(fields or {})}
    for name, value in settings.items():
        _add(writer, name if name.startswith("tokenizer.") else f"{family}.{name}", value)
    names = gguf.get_tensor_name_map(_ARCHITECTURES[family], model.config.num_hidden_layers)
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        stored = names.get_name(name, try_suffixes=(".weight", ".bias")) or name
        values = _converted(model.config, stored, parameter.float().numpy())
        kind = quantization if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(stored, gguf.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    return _write(writer, path)


def write_vocabulary(path: Path, architecture: str, fields: Mapping[str, Any]) -> Path:
    """Write a GGUF file that holds a tokenizer only; field names are given without 'tokenizer.'."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in fields.items():
        _add(writer, f"tokenizer.{name}", value)
    return _write(writer, path)


def write_empty(path: Path, architecture: str) -> Path:
    """Write a GGUF file that names an architecture and holds nothing."""
    return _write(gguf.GGUFWriter(path, architecture), path)


def _write(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _fields(config: Any) -> dict[str, Any]:
    if config.model_type == "gpt2":
        return {
            "block_count": config.n_layer,
            "context_length": config.n_positions,
            "embedding_length": config.n_embd,
            "feed_forward_length": 4 * config.n_embd,
            "attention.head_count": config.n_head,
            "attention.layer_norm_epsilon": config.layer_norm_epsilon,
        }
    fields = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_parameters["rope_theta"],
    }
    if config.model_type == "qwen3":
        fields["attention.key_length"] = fields["attention.value_length"] = config.head_dim
    return fields


def _converted(config: Any, stored: str, values: _Array) -> _Array:
    if config.model_type == "gpt2" and stored.endswith(_TRANSPOSED):
        flipped: _Array = values.T
        return flipped
    if config.model_type != "llama" or not (".attn_q." in stored or ".attn_k." in stored):
        return values
    heads = config.num_attention_heads if ".attn_q." in stored else config.num_key_value_heads
    split = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    rows: _Array = split.swapaxes(1, 2).reshape(values.shape)
    return rows


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """The logits of a model for a few tokens: [1, num_tokens, vocab]."""
    result: torch.Tensor = model(torch.arange(5, 40)[None]).logits
    return result
