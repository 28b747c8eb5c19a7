"""Taps: what a drafter reads of its target beside tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Tap(nn.Module):
    """States that enter some of the target's layers, side by side, and what a projection makes of them.

    It becomes a part of the target's graph, so that a drafter of any number of layers reads rows of one size.

    Args:
        layers: The layers, ascending from 0; none for the state that the target's head reads.
        project: What the drafter makes of them first, if anything.
    """

    def __init__(self, layers: Sequence[int] = (), project: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.project = project or nn.Identity()

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """States of the layers, each `[batch, num_tokens, hidden]`, as the drafter reads them."""
        made: Tensor = self.project(torch.cat(tuple(states), dim=-1))
        return made


class StateReader:
    """A causal language model whose `forward` takes `hidden_states [batch, num_tokens, states_size]` too.

    They are what the tap gives of the token before each; behind drafts, what the model itself gives.
    """

    tap: Tap
    """What it reads of the target."""
    states_size: int
    """Size of one row of it."""


def tap_of(drafter: nn.Module) -> Tap:
    """What a drafter that reads states reads."""
    tap = getattr(drafter, "tap", None)
    return tap if isinstance(tap, Tap) else Tap()


def stand_in_states(model: object, ids: Tensor) -> dict[str, Tensor]:
    """States made of nothing but the tokens `[batch, num_tokens]`, for a model that reads some; none for others."""
    if not isinstance(model, StateReader):
        return {}
    dtype = next(model.parameters()).dtype if isinstance(model, nn.Module) else torch.float32
    waves = torch.sin((ids[..., None] + 1) * torch.linspace(0.1, 2.9, model.states_size))
    return {"hidden_states": waves.to(dtype)}
