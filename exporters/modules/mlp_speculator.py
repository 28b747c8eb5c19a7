"""The MLP speculator: a state that takes in token by token, with weights for each step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ptgc.exporters.modules.sequential_heads import SequentialHeads

_EPSILON = 1e-6


class ScaledNorm(nn.Module):
    """Root-mean-square normalisation with a scale and a shift."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, states: Tensor) -> Tensor:
        """`[..., size]` of the same."""
        return self.weight * _normalized(states) + self.bias


class MlpSpeculator(SequentialHeads):
    """state = GELU(norm(P state + a E(token))), logits = H state (Wertheimer et al., arXiv 2404.19124, section 3).

    `a` makes the target's state count for half of the last step's input. Any step may have the modules of another.

    Args:
        hidden_size: Of the target.
        inner_size: Of the state.
        vocab_size: Of the target.
        num_heads: Number of steps.
        ties_weights: Whether all steps have the same modules, except for the first projection.
        scales_input: Whether the target's state is normalised first.
    """

    def __init__(
        self,
        hidden_size: int,
        inner_size: int,
        vocab_size: int,
        num_heads: int,
        *,
        ties_weights: bool = False,
        scales_input: bool = False,
    ) -> None:
        super().__init__(num_heads)
        sets = 1 if ties_weights else num_heads
        projections = min(num_heads, 2) if ties_weights else num_heads
        self.emb = nn.ModuleList(nn.Embedding(vocab_size, inner_size) for _ in range(sets))
        self.proj = nn.ModuleList(
            nn.Linear(inner_size if step else hidden_size, inner_size, bias=False) for step in range(projections)
        )
        self.head = nn.ModuleList(nn.Linear(inner_size, vocab_size, bias=False) for _ in range(sets))
        self.ln = nn.ModuleList(ScaledNorm(inner_size) for _ in range(sets))
        self.scales_input = scales_input
        kept = 0.5 ** (0.5 / num_heads)  # share of the state that a step keeps
        self.token_weight = math.sqrt((1 - kept**2) * inner_size / 2) / kept

    def begin(self, hidden_states: Tensor) -> Tensor:
        """The target's state, normalised if that was so in training."""
        return _normalized(hidden_states) / math.sqrt(2) if self.scales_input else hidden_states

    def step(self, head: int, states: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a token into each state."""
        own = min(head, len(self.head) - 1)
        mixed = self.proj[min(head, len(self.proj) - 1)](states) + self.token_weight * self.emb[own](token_ids)
        states = gelu(self.ln[own](mixed))
        return states, self.head[own](states)


def _normalized(states: Tensor) -> Tensor:
    return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + _EPSILON)
