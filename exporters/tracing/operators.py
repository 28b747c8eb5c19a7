"""Standard operators in PyTorch code: symbolic during an export, computed when the code runs eagerly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ptgc.spec.ports import OPSET


def symbolic(op_type: str, inputs: Sequence[Tensor | None], attributes: dict[str, Any], like: Tensor) -> Tensor:
    """One standard operator whose result has the dtype and shape of `like`.

    Outside an export the operator is computed, so that a model can be tried with it before it is traced.
    """
    if not torch.compiler.is_exporting():
        return _MEANING[op_type](*inputs, **attributes)
    result: Tensor = torch.onnx.ops.symbolic(
        op_type, inputs, attributes, dtype=like.dtype, shape=like.shape, version=OPSET
    )
    return result


def gather_rows(hidden: Tensor, rows: Tensor) -> Tensor:
    """Row `rows[b, r]` of each sequence: `[batch, num_tokens, hidden]` to `[batch, num_logits, hidden]`."""
    like = hidden.new_empty((*rows.shape, hidden.shape[-1]))
    return symbolic("GatherND", [hidden, rows.unsqueeze(-1)], {"batch_dims": 1}, like)


def _tensor_scatter(cache: Tensor, update: Tensor, write_index: Tensor, axis: int) -> Tensor:
    assert axis == -2
    written = cache.clone()
    for row, start in enumerate(write_index.tolist()):
        written[row, :, start : start + update.shape[2]] = update[row]
    return written


def _attention(
    query: Tensor,  # [batch, heads, num_tokens, head_dim]
    keys: Tensor,  # [batch, kv_heads, kv_capacity, head_dim]
    values: Tensor,  # as keys
    mask: Tensor,  # bool [batch, 1, num_tokens, kv_capacity]
    scale: float,
    softcap: float = 0.0,
) -> Tensor:
    groups = query.shape[1] // keys.shape[1]
    keys, values = (cache.repeat_interleave(groups, dim=1) for cache in (keys, values))
    scores = query @ keys.transpose(2, 3) * scale
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ values


def _rms_normalization(x: Tensor, weight: Tensor, epsilon: float, axis: int) -> Tensor:
    assert axis == -1
    return torch.rms_norm(x.float(), (x.shape[-1],), weight.float(), epsilon).to(x.dtype)


def _rotary_embedding(x: Tensor, cos: Tensor, sin: Tensor, interleaved: int, rotary_embedding_dim: int = 0) -> Tensor:
    size = rotary_embedding_dim or x.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    cos, sin = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)  # [batch, 1, num_tokens, size / 2]
    if interleaved:
        real, imaginary = turned[..., 0::2], turned[..., 1::2]
        parts = torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), dim=-1).flatten(-2)
    else:
        real, imaginary = turned.chunk(2, dim=-1)
        parts = torch.cat((real * cos - imaginary * sin, real * sin + imaginary * cos), dim=-1)
    return torch.cat((parts, rest), dim=-1)


def _gather_nd(data: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    assert batch_dims == 1 and indices.shape[-1] == 1
    return torch.stack([rows[index[:, 0]] for rows, index in zip(data, indices, strict=True)])


_MEANING: dict[str, Callable[..., Tensor]] = {
    "TensorScatter": _tensor_scatter,
    "Attention": _attention,
    "RMSNormalization": _rms_normalization,
    "RotaryEmbedding": _rotary_embedding,
    "GatherND": _gather_nd,
}
