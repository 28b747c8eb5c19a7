"""The optimisers that every training has, and their rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from muon import Muon
from torch import Tensor, nn

_WARM_UP = 100  # steps
_LEAST_SHARE = 0.02  # of the rate, at the end


def rate_at(rate: float, step: int, share: float) -> float:
    """A rate that rises at first, then falls with the share of the training that is over, by a cosine."""
    fallen = max(0.5 * (1 + math.cos(math.pi * share)), _LEAST_SHARE)
    return rate * min(1.0, (step + 1) / _WARM_UP) * fallen


class Optimizers:
    """Muon for the matrices between states; AdamW for vectors and what belongs to tokens.

    Args:
        matrices: What Muon trains.
        others: What AdamW trains.
        muon_scale: The rate of the matrices against that of the others.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], others: Sequence[nn.Parameter], muon_scale: float) -> None:
        self._parameters = [*matrices, *others]
        self._scaled: list[tuple[torch.optim.Optimizer, float]] = []
        if matrices:
            self._scaled.append((Muon(matrices), muon_scale))
        if others:
            self._scaled.append((torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.01), 1.0))

    def step(self, loss: Tensor, rate: float) -> None:
        """Make the loss smaller, at this rate."""
        for optimizer, _ in self._scaled:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer, scale in self._scaled:
            for group in optimizer.param_groups:
                group["lr"] = scale * rate
            optimizer.step()
