"""Attention of an encoder-decoder while it is probed, while its encoder is traced, and while its decoder is traced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from ptgc.errors import ExportError
from ptgc.exporters.tracing.operators import symbolic
from ptgc.exporters.tracing.probe import LayerCall
from ptgc.exporters.tracing.trace import AttentionCall, PassThroughCache, Trace, own_attention, tracing

_SOURCE, _TOKENS = 3, 2  # different lengths, to tell attention to the source from attention to the text


@dataclass
class DecoderLayers:
    """How the layers of an encoder-decoder attend, in order; also records it during the probe."""

    encoder: nn.Module
    """The encoder, whose own attention is not counted."""
    text: list[LayerCall] = field(default_factory=list)
    """Attention to the text so far."""
    source: list[LayerCall] = field(default_factory=list)
    """Attention to the encoder's output."""
    cross: set[nn.Module] = field(default_factory=set)
    """The modules that attend to the encoder's output."""

    def attend(self, call: AttentionCall) -> Tensor:
        """Record the call; the result has no meaning."""
        if call.others.get("position_bias") is not None:
            raise ExportError(
                f"{type(call.module).__name__} has a bias by position, which is not supported.",
                "docs/support.md lists what can be exported.",
            )
        if call.module not in set(self.encoder.modules()):
            layer = LayerCall(call.key.shape[1], call.key.shape[3], None)
            if call.key.shape[2] == call.query.shape[2]:
                self.text.append(layer)
            else:
                self.source.append(layer)
                self.cross.add(call.module)
        return torch.zeros_like(call.query)


@dataclass
class EncoderTrace:
    """Attention while an encoder is traced, including the decoder's run that makes keys and values from its output."""

    mask: Tensor
    """bool `[batch, source_length]`."""
    cross: set[nn.Module]
    """The modules that attend to the encoder's output."""
    encoder: set[nn.Module]
    """The encoder's modules."""
    keys: list[Tensor] = field(default_factory=list)
    """By layer, `[batch, kv_heads, source_length, head_dim]`."""
    values: list[Tensor] = field(default_factory=list)
    """As keys."""

    def attend(self, call: AttentionCall) -> Tensor:
        """Attend in the encoder, and record what the decoder would attend to."""
        if call.module in self.encoder:
            return masked_attention(call, self.mask)
        if call.module in self.cross:
            self.keys.append(call.key)
            self.values.append(call.value)
        return torch.zeros_like(call.query)  # nothing else of the decoder is needed


@dataclass
class DecoderTrace(Trace):
    """Attention while a decoder is traced: to the caches of the text, and to keys and values of the source."""

    source_mask: Tensor = field(default_factory=lambda: torch.empty(0))
    """bool `[batch, source_length]`."""
    cross: set[nn.Module] = field(default_factory=set)
    """The modules that attend to the encoder's output."""

    def attend(self, call: AttentionCall) -> Tensor:
        """See Trace.attend."""
        return masked_attention(call, self.source_mask) if call.module in self.cross else super().attend(call)


def masked_attention(call: AttentionCall, mask: Tensor) -> Tensor:
    """Attention of every row to all keys that the mask `[batch, keys]` shows."""
    rows = mask[:, None, None, :].expand(-1, 1, call.query.shape[2], -1)
    return symbolic("Attention", [call.query, call.key, call.value, rows], {"scale": call.scale}, call.query)


class SourceCache(EncoderDecoderCache):
    """Gives the layers the source's keys and values from the inputs, and stores nothing of the text."""

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        source: Any = PassThroughCache()
        source.layers = [SimpleNamespace(keys=key, values=value) for key, value in zip(keys, values, strict=True)]
        text: Any = PassThroughCache()
        self.self_attention_cache, self.cross_attention_cache = text, source
        self.is_updated = dict.fromkeys(range(len(keys)), True)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions come in as a port."""
        del layer_idx
        return 0


@torch.no_grad()
def probe_decoder(model: PreTrainedModel) -> DecoderLayers:
    """How the layers attend, found by one eager run.

    Raises:
        ExportError: Not every layer attends to the text and to the source through transformers' attention interface.
    """
    encoder: Any = model.get_encoder()
    found = DecoderLayers(encoder)
    with own_attention(model), tracing(found):
        run_decoder(model, torch.zeros(1, _TOKENS, dtype=torch.long), torch.zeros(1, _SOURCE, _width(model)), None)
    layers = int(getattr(model.config, "decoder_layers", 0) or model.config.num_hidden_layers)
    if len(found.text) != layers or len(found.source) != layers:
        raise ExportError(
            f"{type(model).__name__} has {layers} decoder layers; {len(found.text)} attend to the text and "
            f"{len(found.source)} to the source through transformers' attention interface.",
            "docs/support.md lists what can be exported.",
        )
    return found


def run_decoder(model: PreTrainedModel, ids: Tensor, source: Tensor, cache: Any) -> Tensor:
    """Logits of a decoder's rows.

    Args:
        model: An encoder-decoder.
        ids: int64 `[batch, num_tokens]`.
        source: The encoder's output, `[batch, source_length, hidden_size]`.
        cache: The value of `past_key_values`, or None.
    """
    out: Any = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=source.to(model.dtype)),
        decoder_input_ids=ids,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    logits: Tensor = out.logits
    return logits


def unread_source(model: PreTrainedModel, keys: Tensor) -> Tensor:
    """A stand-in for the encoder's output when its keys and values are inputs: `[batch, source_length, hidden]`."""
    return keys.new_zeros(keys.shape[0], keys.shape[2], _width(model))


def _width(model: PreTrainedModel) -> int:
    return int(getattr(model.config, "d_model", 0) or model.config.hidden_size)


@contextlib.contextmanager
def positions_from(model: PreTrainedModel, position_ids: Tensor) -> Iterator[None]:
    """While open, a decoder's position tables are read at `position_ids`, not from the length of its cache on."""
    whole: Any = model  # whose get_decoder is not annotated
    decoder: nn.Module = whole.get_decoder()
    found = (module for module in decoder.modules() if "Position" in type(module).__name__)
    tables: list[Any] = [module for module in found if isinstance(module, nn.Embedding)]
    for table in tables:
        table.forward = _reader(table, position_ids)
    try:
        yield
    finally:
        for table in tables:
            del table.forward


def _reader(table: nn.Embedding, position_ids: Tensor) -> Any:
    offset = int(getattr(table, "offset", 0))  # for families that begin after their padding token
    return lambda *_, **__: nn.functional.embedding(position_ids + offset, table.weight)
