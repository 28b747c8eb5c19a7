"""Hydra heads: each reads the hidden state and the embeddings of all drafts before its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ptgc.exporters.modules.medusa import ResidualBlock
from ptgc.exporters.modules.sequential_heads import SequentialHeads


class ReducingBlock(nn.Module):
    """V x + SiLU(W x + b): a residual block whose input is wider than its output."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, hidden_size)
        self.res_connection = nn.Linear(input_size, hidden_size)

    def forward(self, states: Tensor) -> Tensor:
        """`[..., hidden_size]` of `[..., input_size]`."""
        made: Tensor = self.res_connection(states) + silu(self.linear(states))
        return made


class HydraHeads(SequentialHeads):
    """Head d reads the state and the last d + 1 tokens, side by side (Ankner et al., arXiv 2402.05109, section 3).

    Args:
        embedding: The target's.
        num_heads: Number of heads.
        num_layers: Blocks of each.
    """

    def __init__(self, embedding: nn.Embedding, num_heads: int, num_layers: int = 1) -> None:
        super().__init__(num_heads)
        size = embedding.embedding_dim
        self.embedding = embedding
        self.blocks = nn.ModuleList(
            nn.Sequential(ReducingBlock((head + 2) * size, size), *(ResidualBlock(size) for _ in range(num_layers - 1)))
            for head in range(num_heads)
        )
        self.lm_heads = nn.ModuleList(nn.Linear(size, embedding.num_embeddings) for _ in range(num_heads))

    def begin(self, hidden_states: Tensor) -> Tensor:
        """The state alone."""
        return hidden_states

    def step(self, head: int, states: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """States grow by the embedding of each token."""
        states = torch.cat([states, self.embedding(token_ids)], dim=-1)
        return states, self.lm_heads[head](self.blocks[head](states))
