"""How a PyTorch model becomes a standard ONNX graph.

Attention goes through transformers' attention interface. Whatever must become one ONNX operator (attention, the
cache write, RMS normalisation, rotary embedding) is replaced while tracing by a symbolic operator, and only where a
numeric probe shows that the operator means the same. What is not recognised stays as PyTorch wrote it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache

from ptgc.errors import ExportError
from ptgc.spec.ports import OPSET

ATTENTION = "ptgc"


@dataclass
class LayerCall:
    """What one layer's attention was called with."""

    kv_heads: int
    """Heads of keys and values."""
    head_dim: int
    """Size of one head."""
    window: int | None
    """Positions seen, the current one included; None for all."""


@dataclass
class Trace:
    """What attention reads and writes while one graph is traced."""

    keys: Sequence[Tensor]
    """Cache of keys by layer, `[batch, kv_heads, kv_capacity, head_dim]`."""
    values: Sequence[Tensor]
    """Cache of values by layer."""
    write_index: Tensor
    """int64 `[batch]`."""
    masks: dict[int | None, Tensor]
    """Boolean mask `[batch, 1, num_tokens, kv_capacity]` by window; None is the full mask."""
    new_keys: list[Tensor] = field(default_factory=list)
    """Keys after this round."""
    new_values: list[Tensor] = field(default_factory=list)
    """Values after this round."""


class Probe:
    """Records what every attention call looks like, in one eager run."""

    def __init__(self) -> None:
        self.layers: list[LayerCall] = []


_active: Trace | Probe | None = None


@contextlib.contextmanager
def tracing(state: Trace | Probe) -> Iterator[None]:
    """Makes `state` what attention calls read and write."""
    global _active
    assert _active is None, "one trace at a time"
    _active = state
    try:
        yield
    finally:
        _active = None


def symbolic(op_type: str, inputs: Sequence[Tensor | None], attributes: dict[str, Any], like: Tensor) -> Tensor:
    """One standard operator whose result has the dtype and shape of `like`."""
    result: Tensor = torch.onnx.ops.symbolic(
        op_type, inputs, attributes, dtype=like.dtype, shape=like.shape, version=OPSET
    )
    return result


class PassThroughCache(Cache):
    """Returns new keys and values unchanged: the attention function owns the cache."""

    def __init__(self) -> None:
        self.layers = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Nothing is kept here."""
        return key_states, value_states

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """Positions come in as a port."""
        return 0


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls: query `[batch, heads, num_tokens, head_dim]`."""
    for name in ("s_aux", "position_bias", "sinks"):
        if kwargs.get(name) is not None:
            raise ExportError(f"The attention of {type(module).__name__} uses '{name}', which is not supported.")
    if isinstance(_active, Probe):
        _active.layers.append(LayerCall(key.shape[1], key.shape[3], sliding_window))
        return torch.zeros_like(query).transpose(1, 2).contiguous(), None
    assert _active is not None, "attention was called outside a trace"
    layer = len(_active.new_keys)
    write = _active.write_index
    keys = symbolic("TensorScatter", [_active.keys[layer], key, write], {"axis": -2}, _active.keys[layer])
    values = symbolic("TensorScatter", [_active.values[layer], value, write], {"axis": -2}, _active.values[layer])
    _active.new_keys.append(keys)
    _active.new_values.append(values)
    attributes = {"scale": float(query.shape[-1] ** -0.5 if scaling is None else scaling)}
    if softcap:
        attributes["softcap"] = float(softcap)
    out = symbolic("Attention", [query, keys, values, _active.masks[sliding_window]], attributes, query)
    return out.transpose(1, 2).contiguous(), None


def gather_rows(hidden: Tensor, rows: Tensor) -> Tensor:
    """Row `rows[b, r]` of each sequence: `[batch, num_tokens, hidden]` to `[batch, num_logits, hidden]`."""
    like = hidden.new_empty((*rows.shape, hidden.shape[-1]))
    return symbolic("GatherND", [hidden, rows.unsqueeze(-1)], {"batch_dims": 1}, like)


def _norm_epsilon(module: nn.Module) -> float | None:
    for name in ("variance_epsilon", "eps", "epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return None


def _is_rms_norm(module: nn.Module) -> bool:
    """Whether `weight * x / sqrt(mean(x^2) + epsilon)` is what the module computes, tried on numbers."""
    weight = getattr(module, "weight", None)
    epsilon = _norm_epsilon(module)
    if "RMSNorm" not in type(module).__name__ or weight is None or weight.ndim != 1 or epsilon is None:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, weight.shape[0], generator=generator).to(weight.dtype)
    expected = torch.rms_norm(x.float(), (weight.shape[0],), weight.float(), epsilon)
    tolerance = 1e-5 if weight.dtype is torch.float32 else 3e-2
    with torch.no_grad():
        return torch.allclose(module(x).float(), expected, rtol=tolerance, atol=tolerance)


def _rms_norm(module: nn.Module) -> Callable[[Tensor], Tensor]:
    epsilon = _norm_epsilon(module)
    assert epsilon is not None
    weight = module.weight
    assert isinstance(weight, Tensor)
    return lambda x: symbolic("RMSNormalization", [x, weight], {"epsilon": epsilon, "axis": -1}, x)


def _is_rotary(function: Callable[..., Any]) -> bool:
    """Whether the function rotates halves with duplicated cosines, tried on numbers."""
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 2, 3, 8, generator=generator)
    angle = torch.randn(1, 3, 4, generator=generator)
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)

    def rotated(x: Tensor) -> Tensor:
        half = torch.cat((-x[..., 4:], x[..., :4]), dim=-1)
        return x * cos[:, None] + half * sin[:, None]

    try:
        got_query, got_key = function(query, key, cos, sin)
    except Exception:  # noqa: BLE001  # whatever a probe of an unknown function raises: it is not the one looked for
        return False
    return torch.allclose(got_query, rotated(query), atol=1e-6) and torch.allclose(got_key, rotated(key), atol=1e-6)


def _rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    half = query.shape[-1] // 2
    return (
        symbolic("RotaryEmbedding", [query, cos[..., :half], sin[..., :half]], {"interleaved": 0}, query),
        symbolic("RotaryEmbedding", [key, cos[..., :half], sin[..., :half]], {"interleaved": 0}, key),
    )


@contextlib.contextmanager
def standard_operators(model: PreTrainedModel) -> Iterator[None]:
    """While open, the model's attention, norms and rotary embeddings are the standard operators."""
    norms = [module for module in model.modules() if _is_rms_norm(module)]
    modeling = {sys.modules[type(module).__module__] for module in model.modules()}
    rotaries = [m for m in modeling if _is_rotary(getattr(m, "apply_rotary_pos_emb", lambda: None))]
    saved = [(m, m.apply_rotary_pos_emb) for m in rotaries]
    previous = str(model.config._attn_implementation)
    AttentionInterface.register(ATTENTION, attend)
    model.set_attn_implementation(ATTENTION)
    try:
        for module in norms:
            module.forward = _rms_norm(module)
        for namespace in rotaries:
            namespace.apply_rotary_pos_emb = _rotary  # type: ignore[attr-defined]  # undone below
        yield
    finally:
        for module in norms:
            del module.forward
        for namespace, function in saved:
            namespace.apply_rotary_pos_emb = function  # type: ignore[attr-defined]
        model.set_attn_implementation(previous)


def probe_layers(model: PreTrainedModel) -> list[LayerCall]:
    """How every layer attends, found by one eager run of two tokens.

    Raises:
        ExportError: The model's attention does not go through transformers' attention interface.
    """
    probe = Probe()
    previous = str(model.config._attn_implementation)
    AttentionInterface.register(ATTENTION, attend)
    model.set_attn_implementation(ATTENTION)
    try:
        with tracing(probe), torch.no_grad():
            model(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=False)
    finally:
        model.set_attn_implementation(previous)
    layers = model.config.get_text_config().num_hidden_layers
    if len(probe.layers) != layers:
        raise ExportError(
            f"{type(model).__name__} has {layers} layers, of which {len(probe.layers)} attend through transformers' "
            "attention interface; the others cannot be traced.",
            "docs/support.md lists the families that can.",
        )
    return probe.layers
