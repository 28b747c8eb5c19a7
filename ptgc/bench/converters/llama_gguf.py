"""Writes a checkpoint of the Llama architecture as a GGUF file, which llama.cpp and OpenVINO GenAI read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ptgc.errors import CheckpointError


def write_gguf(model: Path, file: Path, dtype: type[np.floating[Any]] = np.float32) -> None:
    """Write all weights; the vocabulary is left out, because prompts of the benchmark are token ids.

    Args:
        model: A Hugging Face directory.
        file: The file to write.
        dtype: float32 or float16, for weights of two dimensions; vectors are float32.

    Raises:
        CheckpointError: The file format's Llama architecture cannot describe the model.
    """
    import gguf
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(model, local_files_only=True)
    check_config(config)
    architecture = gguf.MODEL_ARCH.LLAMA
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[architecture], use_temp_file=False)
    _add_sizes(writer, config)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if dtype is np.float32 else gguf.LlamaFileType.MOSTLY_F16)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, weight in read_weights(model):
        stored = names.get_name(name, try_suffixes=(".weight",))
        if stored is None:
            raise CheckpointError(f"The Llama architecture of GGUF has no tensor for {name}.")
        writer.add_tensor(stored, interleaved(name, weight, config).astype(dtype if weight.ndim > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_config(config: Any) -> None:
    """Refuse what a GGUF file of the Llama architecture would not say, or say differently.

    Raises:
        CheckpointError: The error names every problem.
    """
    wanted: dict[str, Any] = {"model_type": "llama"}
    given = {"model_type": config.model_type}
    if config.model_type == "llama":  # other families name these otherwise
        wanted |= {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "rope_type": "default"}
        given |= {name: getattr(config, name) for name in ("hidden_act", "attention_bias", "mlp_bias")}
        given["rope_type"] = config.rope_parameters["rope_type"]
    problems = [f"{name} is {given[name]}, not {value}" for name, value in wanted.items() if given[name] != value]
    if problems:
        raise CheckpointError(f"Only plain Llama models are written as GGUF: {'; '.join(problems)}.")


def interleaved(name: str, weight: np.ndarray, config: Any) -> np.ndarray:
    """Query and key weights with the rows of a head in GGUF's order; other weights as they are.

    A head's rows are rotated in pairs. Hugging Face pairs row i with row i + head_dim / 2, GGUF with its neighbour.
    """
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for projection, count in heads.items():
        if f".{projection}." in name:
            halves = weight.reshape(count, 2, -1, weight.shape[-1])  # [heads, 2, head_dim / 2, hidden]
            return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)
    return weight


def _add_sizes(writer: Any, config: Any) -> None:
    head_dim = config.head_dim or config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("no_vocab")


def read_weights(model: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and float32 weights of all safetensors files."""
    from safetensors import safe_open

    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:  # numpy has no bfloat16
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                yield name, tensors.get_tensor(name).float().numpy()
