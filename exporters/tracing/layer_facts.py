"""What a configuration says about a model's layers, through optimum's normalised names if it has the family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optimum.utils import NormalizedConfigManager
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ptgc.errors import ExportError


@dataclass(frozen=True)
class LayerFacts:
    """Facts from a configuration; None if it does not say."""

    num_layers: int | None
    """Decoder layers."""
    kv_heads: int | None
    """Heads of keys and values."""
    head_dim: int | None
    """Size of one head."""


def layer_facts(config: PreTrainedConfig) -> LayerFacts:
    """The facts of a text model's configuration.

    Every family names them differently (`n_layer`, `decoder_layers`, `num_hidden_layers` ...). If optimum lacks the
    family, only the number of layers is read, under transformers' own name; the rest is then found by running the
    layers.
    """
    text: Any = config.get_text_config(decoder=True)
    try:
        normalized = NormalizedConfigManager.get_normalized_config_class(text.model_type)(text)
    except KeyError:
        return LayerFacts(_number(text, "num_hidden_layers"), None, None)
    heads = _number(normalized, "num_attention_heads")
    head_dim, hidden_size = _number(normalized, "head_dim"), _number(normalized, "hidden_size")
    if head_dim is None and heads and hidden_size:
        head_dim = hidden_size // heads
    return LayerFacts(
        num_layers=_number(normalized, "num_layers"),
        kv_heads=_number(normalized, "num_key_value_heads") or heads,
        head_dim=head_dim,
    )


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The list of a causal language model's layers.

    Raises:
        ExportError: It has none.
    """
    total, body = model.config.get_text_config(decoder=True).num_hidden_layers, model.base_model
    for child in body.modules() if isinstance(body, nn.Module) else ():
        if isinstance(child, nn.ModuleList) and len(child) == total:
            return child
    raise ExportError(f"{type(model).__name__} has no list of its {total} layers.")


def _number(source: Any, name: str) -> int | None:
    found = getattr(source, name, None)
    return found if isinstance(found, int) else None
