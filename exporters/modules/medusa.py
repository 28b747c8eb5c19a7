"""Medusa heads: residual blocks on a hidden state, each with its own head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MedusaHead(nn.Module):
    """One head: a residual block, then logits of a token at a fixed distance ahead."""

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, vocab_size, bias=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Logits `[..., vocab]` of hidden states `[..., hidden_size]`."""
        logits: Tensor = self.head(hidden_states + functional.silu(self.linear(hidden_states)))
        return logits


class MedusaHeads(nn.Module):
    """Medusa-1 with one residual block per head (Cai et al., arXiv 2401.10774, section 2.1)."""

    def __init__(self, hidden_size: int, vocab_size: int, num_heads: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(MedusaHead(hidden_size, vocab_size) for _ in range(num_heads))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Logits `[batch, heads, vocab]` of hidden states `[batch, 1, hidden_size]`."""
        return torch.cat([head(hidden_states) for head in self.heads], dim=1)
