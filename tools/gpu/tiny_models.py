"""Tiny models with random weights, for every loop; their texts vary from position to position."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    LlamaConfig,
    MarianConfig,
    MistralConfig,
)

from ptgc.exporters.modules.ctc import CtcConfig, CtcDecoder
from ptgc.exporters.modules.layers import Encoder
from ptgc.exporters.modules.levenshtein import LevenshteinConfig, levenshtein_roles

_DRAFTER_NOISE = 0.04
_CAUSAL: dict[str, Any] = {
    "vocab_size": 640,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
}
_ENCODERS: dict[str, Any] = {
    "source_vocab_size": 48,
    "hidden_size": 64,
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 96,
}


def scattered(module: nn.Module, scale: float = 0.12, positions: float = 1.5) -> Any:
    """The module in eval mode, with random weights large enough that its choices vary.

    Args:
        module: Any module.
        scale: Standard deviation of matrices.
        positions: Standard deviation of position embeddings, which must tell positions apart.
    """
    random = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
            else:
                spread = positions if "position" in name else scale
                parameter.copy_(spread * torch.randn(parameter.shape, generator=random))
    return module.requires_grad_(False).eval()


def causal() -> Any:
    """A causal LM with varied text."""
    return scattered(AutoModelForCausalLM.from_config(LlamaConfig(**_CAUSAL)))


def causal_with_window() -> Any:
    """A causal LM with a sliding window, which repeats itself now and then, so that n-gram lookup finds something."""
    sizes: dict[str, Any] = _CAUSAL | {"vocab_size": 48, "sliding_window": 24}
    return scattered(AutoModelForCausalLM.from_config(MistralConfig(**sizes)), scale=0.08)


def disturbed(model: Any) -> Any:
    """A drafter: the model with noise, wrong often enough that some drafts are rejected."""
    drafter, random = copy.deepcopy(model), torch.Generator().manual_seed(12)
    with torch.no_grad():
        for parameter in drafter.parameters():
            noise = torch.randn(parameter.shape, generator=random)
            parameter.add_(_DRAFTER_NOISE * parameter.std() * noise)
    return drafter


def masked() -> Any:
    """A masked LM; token 3 is the mask."""
    config = BertConfig(
        vocab_size=96,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=96,
    )
    return scattered(AutoModelForMaskedLM.from_config(config))


def encoder_decoder() -> Any:
    """An encoder-decoder that starts texts with token 0."""
    config = MarianConfig(
        vocab_size=96,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=96,
        decoder_ffn_dim=96,
        max_position_embeddings=96,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        forced_eos_token_id=None,
        decoder_start_token_id=0,
    )
    return scattered(AutoModelForSeq2SeqLM.from_config(config))


def ctc(upsampling: int) -> dict[str, nn.Module]:
    """The roles of a CTC transformer; token 0 is the blank."""
    config = CtcConfig(vocab_size=24, blank_token_id=0, upsampling=upsampling, **_ENCODERS)
    return {"encoder": scattered(Encoder(config)), "decoder": scattered(CtcDecoder(config))}


def levenshtein() -> dict[str, nn.Module]:
    """The roles of a Levenshtein transformer: 0 pads, 1 begins, 2 ends, 3 is the placeholder."""
    modules = levenshtein_roles(LevenshteinConfig(vocab_size=32, max_insertions=5, **_ENCODERS))
    scattered(nn.ModuleDict(modules), scale=0.2)  # with less it never inserts
    return dict(modules)
