"""How a PyTorch model becomes a standard ONNX graph.

Attention goes through transformers' attention interface. Whatever must become one ONNX operator (attention, the
cache write, RMS normalisation, rotary embedding) is replaced by that operator during tracing, and only if a numeric
probe shows that the operator computes the same. Everything else stays as PyTorch traced it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache

from ptgc.exporters.tracing.operators import symbolic
from ptgc.exporters.tracing.recognition import standard_modules
from ptgc.exporters.tracing.rotary_frequencies import fixed_frequencies

ATTENTION = "ptgc"


@dataclass(frozen=True)
class AttentionCall:
    """The arguments that a model gave its attention function."""

    module: nn.Module
    """The module that called."""
    query: Tensor
    """`[batch, heads, num_tokens, head_dim]`."""
    key: Tensor
    """`[batch, kv_heads, num_tokens, head_dim]`."""
    value: Tensor
    """`[batch, kv_heads, num_tokens, value_dim]`."""
    mask: Tensor | None
    """The attention mask as the model transformed it."""
    scale: float
    """Factor on the scores."""
    softcap: float | None
    """Soft bound on the scores; None for none."""
    others: dict[str, Any]
    """All other arguments of this model."""


class Attending(Protocol):
    """The current implementation of attention."""

    def attend(self, call: AttentionCall) -> Tensor:
        """`[batch, heads, num_tokens, value_dim]`."""
        ...


@dataclass
class Trace:
    """What attention reads and writes while one graph is traced."""

    keys: Sequence[Tensor]
    """Cache of keys by layer, `[batch, kv_heads, capacity, head_dim]`."""
    values: Sequence[Tensor]
    """Cache of values by layer."""
    write_index: Sequence[Tensor]
    """Slot of the round's first row, int64 `[batch]` by layer; layers may share one."""
    masks: Sequence[Tensor]
    """Boolean mask `[batch, 1, num_tokens, capacity]` by layer; layers may share one."""
    new_keys: list[Tensor] = field(default_factory=list)
    """Keys after this round."""
    new_values: list[Tensor] = field(default_factory=list)
    """Values after this round."""

    def attend(self, call: AttentionCall) -> Tensor:
        """Write keys and values into the caches and attend to the caches."""
        layer = len(self.new_keys)
        head_dim = self.keys[layer].shape[-1]
        query, key, value = (_widened(x, head_dim) for x in (call.query, call.key, call.value))
        first_slot = self.write_index[layer]
        keys, values = (
            symbolic("TensorScatter", [cache, rows, first_slot], {"axis": -2}, cache)
            for cache, rows in ((self.keys[layer], key), (self.values[layer], value))
        )
        self.new_keys.append(keys)
        self.new_values.append(values)
        attributes = {"scale": call.scale}
        if call.softcap:
            attributes["softcap"] = float(call.softcap)
        out = symbolic("Attention", [query, keys, values, self.masks[layer]], attributes, query)
        return out if call.value.shape[-1] == head_dim else out[..., : call.value.shape[-1]]


def _widened(heads: Tensor, head_dim: int) -> Tensor:
    """Pad smaller heads with zeros, which change no product of query and key."""
    missing = head_dim - heads.shape[-1]
    return pad(heads, (0, missing)) if missing else heads


_active: Attending | None = None


@contextlib.contextmanager
def tracing(state: Attending) -> Iterator[None]:
    """While open, attention calls `state`."""
    global _active
    assert _active is None, "one trace at a time"
    _active = state
    try:
        yield
    finally:
        _active = None


class OwnStateError(Exception):
    """A module asked the cache for a state other than keys and values."""


class _NoLayers(list[Any]):
    """The layers of a cache that stores nothing."""

    def __getitem__(self, index: Any) -> Any:
        raise OwnStateError


class PassThroughCache(Cache):
    """Returns new keys and values unchanged, since the attention function owns the cache."""

    def __init__(self) -> None:
        self.layers = _NoLayers()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Store nothing."""
        return key_states, value_states

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """Zero, since positions are an input port."""
        return 0

    def get_query_offset(self, *args: Any, **kwargs: Any) -> int:
        """Zero, for the same reason."""
        return 0

    def get_mask_sizes(self, query_length: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """The round's own rows, since masks are input ports."""
        return query_length, 0


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls, with query `[batch, heads, num_tokens, head_dim]`."""
    assert _active is not None, "attention was called outside a trace"
    scale = float(query.shape[-1] ** -0.5 if scaling is None else scaling)
    call = AttentionCall(module, query, key, value, attention_mask, scale, softcap, kwargs)
    return _active.attend(call).transpose(1, 2).contiguous(), None


@contextlib.contextmanager
def own_attention(model: PreTrainedModel) -> Iterator[None]:
    """While open, the model's attention is `attend`."""
    previous = str(model.config._attn_implementation)
    AttentionInterface.register(ATTENTION, attend)
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(previous)


@contextlib.contextmanager
def standard_operators(model: PreTrainedModel) -> Iterator[None]:
    """While open, the model's attention, norms and rotary embeddings are the standard operators."""
    with own_attention(model), fixed_frequencies(model), standard_modules(model):
        yield
