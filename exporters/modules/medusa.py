"""Medusa heads: residual blocks on a hidden state, and logits of a token at a fixed distance ahead."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ptgc.exporters.modules.tap import Tap


class ResidualBlock(nn.Module):
    """x + SiLU(W x + b)."""

    def __init__(self, hidden_size: int, *, has_bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, hidden_size, bias=has_bias)

    def forward(self, states: Tensor) -> Tensor:
        """`[..., hidden_size]` of the same."""
        return states + silu(self.linear(states))


class MedusaHeads(nn.Module):
    """Heads that do not know of each other's drafts (Cai et al., arXiv 2401.10774, section 2.1).

    Args:
        hidden_size: Of the target.
        vocab_size: Tokens that the heads can draft.
        num_heads: Number of heads.
        num_layers: Residual blocks of each.
        lm_head: What all heads have in common, such as the target's own; by default each has a matrix of its own.
        drafted_ids: The target's ids of the tokens that they can draft; by default all, in order.
        has_bias: Whether blocks have biases.
        has_logits_bias: Whether the heads' own matrices have.
    """

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int,
        num_heads: int,
        num_layers: int = 1,
        *,
        lm_head: nn.Module | None = None,
        drafted_ids: Sequence[int] | None = None,
        has_bias: bool = True,
        has_logits_bias: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(hidden_size, has_bias=has_bias) for _ in range(num_layers)))
            for _ in range(num_heads)
        )
        own = num_heads if lm_head is None else 0
        self.lm_heads = nn.ModuleList(nn.Linear(hidden_size, vocab_size, bias=has_logits_bias) for _ in range(own))
        self.lm_head = lm_head
        self.drafted_ids = drafted_ids
        self.tap = Tap()

    def forward(self, hidden_states: Tensor, num_heads: int | None = None) -> Tensor:
        """Logits `[batch, heads, vocab]` of hidden states `[batch, 1, hidden_size]`, of the first heads or all."""
        states = [block(hidden_states) for block in self.blocks[:num_heads]]
        if self.lm_head is not None:
            logits: Tensor = self.lm_head(torch.cat(states, dim=1))
            return logits
        return torch.cat([head(one) for head, one in zip(self.lm_heads, states, strict=False)], dim=1)
