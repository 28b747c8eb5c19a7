"""Mixtures of experts as standard operators."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

EXPERTS = "ptgc"


@contextlib.contextmanager
def dense_experts(model: PreTrainedModel) -> Iterator[None]:
    """While open, experts are traceable products: transformers' own forms loop over the experts that tokens chose."""
    if not any(hasattr(module, "_is_expert_parallel") for module in model.modules()):
        yield
        return
    previous: Any = model.config._experts_implementation
    ALL_EXPERTS_FUNCTIONS.register(EXPERTS, compute_all)
    model.set_experts_implementation(EXPERTS)
    try:
        yield
    finally:
        model.set_experts_implementation(previous)


def compute_all(self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Compute every expert on every row; only the chosen ones count.

    The graph is static and the same at every width, and needs no copy of weights: gathering the chosen experts' weights
    would copy them for every row. A backend that can skip experts recognises this form.

    Args:
        self: A module of experts in transformers' convention: `gate_up_proj` or `up_proj`, and `down_proj`, whose first
            axis is the expert.
        hidden_states: `[rows, hidden]`.
        top_k_index: int64 `[rows, k]`.
        top_k_weights: `[rows, k]`.

    Returns:
        `[rows, hidden]`.
    """
    name = "gate_up_proj" if self.has_gate else "up_proj"
    rows = hidden_states.shape[0]
    chosen = top_k_weights.new_zeros(rows, self.num_experts).scatter(1, top_k_index, top_k_weights)
    weights = chosen.transpose(0, 1).unsqueeze(-1)  # [experts, rows, 1]
    inner = _products(self, name, hidden_states.unsqueeze(0))
    inner = self._apply_gate(inner) if self.has_gate else self.act_fn(inner)
    out = _products(self, "down_proj", inner)
    if self.has_post_expert_norm:
        out = self.post_expert_norm(out)
    # Experts that were not chosen may overflow in half precision, and infinity times zero is NaN.
    out = out.masked_fill(weights == 0, 0.0) * weights
    return out.sum(dim=0).to(hidden_states.dtype)


def _products(self: Any, name: str, rows: Tensor) -> Tensor:
    """`[experts or 1, rows, in]` times each expert's matrix: `[experts, rows, out]`."""
    matrix = getattr(self, name)
    out = torch.matmul(rows, matrix if self.is_transposed else matrix.transpose(1, 2))
    return out + getattr(self, f"{name}_bias").unsqueeze(1) if self.has_bias else out
