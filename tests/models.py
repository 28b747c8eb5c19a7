"""Tiny models of every family: random weights, texts that do not degenerate, made in seconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
)

VOCAB_SIZE = 512
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
}
_SMALL: dict[str, Any] = _COMMON | {"num_hidden_layers": 2, "pad_token_id": None}
_WINDOWS: dict[str, Any] = _SMALL | {
    "head_dim": 16,
    "sliding_window": 24,
    "tie_word_embeddings": False,
    "layer_types": ["sliding_attention", "full_attention"],
}
_HEADS_OF_16: dict[str, Any] = {"head_dim": 16}
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2}


def _scaled(rope_type: str, **parameters: Any) -> Any:
    """A llama with scaled rotary frequencies, whose trained context is a quarter of its positions."""
    rope = {"rope_type": rope_type, "rope_theta": 10000.0, "factor": 4.0} | parameters
    return LlamaConfig(**_SMALL, rope_parameters=rope)


_LONG_ROPE: dict[str, Any] = {
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [2.0 + 0.3 * i for i in range(8)],
    "original_max_position_embeddings": 640,
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**_COMMON, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**_COMMON),
    "qwen3": lambda: Qwen3Config(**_COMMON, head_dim=16),
    "mistral": lambda: MistralConfig(**_COMMON, sliding_window=24),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_embd=64,
        n_layer=3,
        n_head=4,
        n_positions=1024,
        bos_token_id=None,
        eos_token_id=None,
    ),
}
FAMILIES = tuple(CONFIGS)
"""Families that every test of graphs and texts runs."""

_FEW_HEADS: dict[str, Any] = {**_SMALL, "num_attention_heads": 2, "num_key_value_heads": 1}

_MORE_CONFIGS: dict[str, Callable[[], Any]] = {
    "llama-linear": lambda: _scaled("linear"),
    "llama-dynamic": lambda: _scaled("dynamic"),
    "llama-yarn": lambda: _scaled("yarn", original_max_position_embeddings=256),
    "llama-longrope": lambda: _scaled("longrope", **_LONG_ROPE),
    "llama-llama3": lambda: _scaled(
        "llama3", original_max_position_embeddings=256, low_freq_factor=1.0, high_freq_factor=4.0
    ),
    "gemma2": lambda: Gemma2Config(
        **_WINDOWS, query_pre_attn_scalar=16, attn_logit_softcapping=2.0, final_logit_softcapping=20.0
    ),
    "gemma3": lambda: Gemma3TextConfig(**_WINDOWS, query_pre_attn_scalar=16),
    "phi3": lambda: Phi3Config(
        **_FEW_HEADS,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    ),
    "olmo2": lambda: Olmo2Config(**_SMALL),
    "granite": lambda: GraniteConfig(
        **_SMALL, attention_multiplier=0.3, logits_scaling=2.0, residual_multiplier=0.7, embedding_multiplier=3.0
    ),
    "stablelm": lambda: StableLmConfig(**_SMALL, qk_layernorm=True),
    "smollm3": lambda: SmolLM3Config(**_SMALL, no_rope_layers=[1, 0]),
    "starcoder2": lambda: Starcoder2Config(**_SMALL, sliding_window=24, tie_word_embeddings=False),
    "gpt_neox": lambda: GPTNeoXConfig(**{k: v for k, v in _SMALL.items() if k != "num_key_value_heads"}),
    "opt": lambda: OPTConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        word_embed_proj_dim=64,
        ffn_dim=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=1,
    ),
    "cohere": lambda: CohereConfig(**_SMALL, use_qk_norm=True, logit_scale=0.5),
    "cohere2": lambda: Cohere2Config(**_WINDOWS, logit_scale=0.5),
    "mixtral": lambda: MixtralConfig(**_SMALL, **_EXPERTS, num_local_experts=4),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **_SMALL, **_EXPERTS, **_HEADS_OF_16, num_experts=8, moe_intermediate_size=32, norm_topk_prob=True
    ),
}
MORE_FAMILIES = tuple(_MORE_CONFIGS)
"""Families that only one test of graphs and one of texts use."""
_SCALE = {"gpt_neox": 10.0}  # scale of random matrices; 8 by default


@cache
def tiny_model(family: str) -> Any:
    """A tiny causal LM; weights are large enough that greedy text varies instead of repeating itself."""
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config((CONFIGS | _MORE_CONFIGS)[family]()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.mul_(_SCALE.get(family, 8.0))
            elif "bias" in name:
                parameter.normal_(std=0.1)
            elif "norm" in name or "ln_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def prompt(length: int, seed: int = 0) -> list[int]:
    """Token ids of a prompt."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist()


@torch.no_grad()
def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    """The greedy text that transformers writes."""
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
    )
    return out[0, len(ids) :].tolist()


def save(model: Any, folder: Path) -> Path:
    """A Hugging Face directory of the model."""
    model.save_pretrained(folder)
    return folder
