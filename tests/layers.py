"""Tiny targets that some of their layers draft well for, and drafting over a target's cache in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Cohere2Config, DynamicCache, LlamaConfig

from ptgc.exporters.strategies.layer_skip import some_layers
from tests.models import VOCAB_SIZE

NEEDLESS = (1, 3, 4)
"""Layers of the deep targets that change little."""
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_WINDOWS = ["sliding_attention", "full_attention", "full_attention"] * 2


@cache
@torch.no_grad()
def deep_model(family: str = "llama") -> Any:
    """A target of six layers, three of which are nearly needless; cohere2 has windows in layers 0 and 3."""
    torch.manual_seed(3)
    config = (
        LlamaConfig(**_SHAPE)
        if family == "llama"
        else Cohere2Config(**_SHAPE, logit_scale=0.5, sliding_window=24, layer_types=_WINDOWS)
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            needless = any(f"layers.{layer}." in name for layer in NEEDLESS)
            parameter.mul_(0.5 if needless and name.endswith(("o_proj.weight", "down_proj.weight")) else 8.0)
    return model


@torch.no_grad()
def drafts_of(target: Any, kept: Sequence[int], ids: Sequence[int], count: int) -> list[int]:
    """What layers of a target draft after a text, over what the target's run of all but its last token left of them."""
    part, own = some_layers(target, kept), DynamicCache()
    for place, layer in enumerate(part.model.layers):
        layer.self_attn.layer_idx = place
    if len(ids) > 1:
        read = target(torch.tensor([ids[:-1]]), past_key_values=DynamicCache()).past_key_values
        for place, layer in enumerate(kept):
            own.update(read.layers[layer].keys, read.layers[layer].values, place)
    drafts = [ids[-1]]
    for _ in range(count):
        logits = part(torch.tensor([drafts[-1:]]), past_key_values=own).logits
        drafts.append(int(logits[0, -1].argmax()))
    return drafts[1:]
