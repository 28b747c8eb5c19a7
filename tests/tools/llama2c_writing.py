"""Writing tiny models in the format of llama2.c, as its own export does."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

PIECES = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(bytes([byte]) for byte in range(256)), b" ", b"a", b"b", b" a"]


def tiny_llama(*, tied: bool = True) -> LlamaForCausalLM:
    """A model with one token for every entry of PIECES."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(PIECES),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config)


def llama2c_content(model: LlamaForCausalLM) -> bytes:
    """Return `model.bin` and `tokenizer.bin`, one after the other."""
    return _weights(model) + _tokenizer()


def _weights(model: LlamaForCausalLM) -> bytes:
    config: Any = model.config
    tied = config.tie_word_embeddings
    header = struct.pack(
        "<7i",
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size if tied else -config.vocab_size,
        config.max_position_embeddings,
    )
    layers: Any = model.model.layers
    tensors = [model.model.embed_tokens.weight]
    tensors += [layer.input_layernorm.weight for layer in layers]
    tensors += [_pairs(layer.self_attn.q_proj.weight, config.head_dim) for layer in layers]
    tensors += [_pairs(layer.self_attn.k_proj.weight, config.head_dim) for layer in layers]
    tensors += [layer.self_attn.v_proj.weight for layer in layers]
    tensors += [layer.self_attn.o_proj.weight for layer in layers]
    tensors += [layer.post_attention_layernorm.weight for layer in layers]
    tensors += [layer.mlp.gate_proj.weight for layer in layers]
    tensors += [layer.mlp.down_proj.weight for layer in layers]
    tensors += [layer.mlp.up_proj.weight for layer in layers]
    tensors += [model.model.norm.weight]
    tensors += [torch.zeros(config.max_position_embeddings, config.head_dim)]  # cosines and sines
    tensors += [] if tied else [model.lm_head.weight]
    return header + b"".join(tensor.detach().numpy().astype("<f4").tobytes() for tensor in tensors)


def _pairs(weight: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Put the rows of rotary halves next to each other."""
    halves = weight.reshape(-1, 2, head_dim // 2, weight.shape[-1])
    return halves.transpose(1, 2).reshape(weight.shape)


def _tokenizer() -> bytes:
    scores = np.zeros(len(PIECES), np.float32)
    entries = [struct.pack("<fi", score, len(piece)) + piece for score, piece in zip(scores, PIECES, strict=True)]
    return struct.pack("<i", max(map(len, PIECES))) + b"".join(entries)
