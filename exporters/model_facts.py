"""What the loops must know of a model, read from its configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from ptgc.errors import ExportError
from ptgc.exporters.tracing.rotary_frequencies import fixed_length, scaled_length
from ptgc.spec.model_facts import ModelFacts


def facts_of(module: nn.Module, vocab_size: int | None = None) -> ModelFacts:
    """The facts of a module whose `config` uses transformers' names.

    Args:
        module: Its config has `model_type`, `vocab_size` and `max_position_embeddings`, and may have
            `eos_token_id`, `bos_token_id` and `decoder_start_token_id`.
        vocab_size: Size of the logits, possibly padded, if known.

    Raises:
        ExportError: Something is missing.
    """
    config = _text_config(module)
    size = vocab_size or getattr(config, "vocab_size", None)
    context = context_of(module)
    if not isinstance(size, int) or context is None:
        raise ExportError(
            f"{type(module).__name__} has no config with vocab_size and max_position_embeddings.",
            "Give it one, or say what the loops must know: export(..., model_facts=ModelFacts(...)).",
        )
    bos = getattr(config, "bos_token_id", None)
    start = start_token_id(module) if getattr(config, "is_encoder_decoder", False) else None
    return ModelFacts(
        family=str(getattr(config, "model_type", type(module).__name__)),
        vocab_size=size,
        context_length=context,
        eos_token_ids=eos_token_ids(module),
        bos_token_id=bos if isinstance(bos, int) and 0 <= bos < size else None,
        decoder_start_token_id=start if isinstance(start, int) and 0 <= start < size else None,
    )


def context_of(module: nn.Module) -> int | None:
    """Positions for which one graph is exact; None if the configuration does not say how many the model has."""
    length = scaled_length(_text_config(module))
    return None if length is None else min(length, fixed_length(module) or length)


def source_vocab_size(encoder: nn.Module) -> int | None:
    """Size of an encoder's vocabulary; None if its configuration does not say."""
    config = getattr(encoder, "config", None)
    for name in ("source_vocab_size", "vocab_size"):
        size = getattr(config, name, None)
        if isinstance(size, int):
            return size
    return None


def eos_token_ids(module: nn.Module) -> tuple[int, ...]:
    """Every id that ends a text, from the generation settings or else the configuration."""
    found = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
    config = _text_config(module)
    if found is None:
        found = getattr(getattr(module, "config", None), "eos_token_id", None)
    vocab_size = getattr(config, "vocab_size", 0)
    ids = [found] if isinstance(found, int) else list(found or ())
    return tuple(token for token in ids if 0 <= token < vocab_size)


def start_token_id(module: Any) -> int:
    """The token that starts every text of an encoder-decoder, chosen as transformers does.

    Raises:
        ExportError: Neither the generation settings nor the configuration name one.
    """
    settings, config = getattr(module, "generation_config", None), getattr(module, "config", None)
    for name in ("decoder_start_token_id", "bos_token_id"):
        for source in (settings, config):
            found = getattr(source, name, None)
            if isinstance(found, int):
                return found
    raise ExportError(
        f"{type(module).__name__} is an encoder-decoder that does not say what its texts start with.",
        "Add decoder_start_token_id to its generation_config.json or config.json.",
    )


def _text_config(module: nn.Module) -> Any:
    config: Any = getattr(module, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config
