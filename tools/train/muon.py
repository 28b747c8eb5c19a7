"""Muon: steps along the nearest semi-orthogonal matrix (Jordan et al., 2024, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from number_type import product_type
from torch import Tensor, nn

_MOMENTUM, _DECAY = 0.95, 0.01
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_RMS = 0.2  # of AdamW's steps, so that both take the same rates (Liu et al., arXiv 2502.16982, section 2.2)


class Muon(torch.optim.Optimizer):
    """As torch.optim.Muon, whose products are in bfloat16 even where the processor has no instructions for it.

    Matrices of one shape are multiplied together.
    """

    def __init__(self, matrices: Sequence[nn.Parameter]) -> None:
        super().__init__(matrices, {"lr": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take a step along the gradients."""
        assert closure is None, "losses are not evaluated anew"
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for one in group["params"]:
                by_shape[one.shape].append(one)
            for shape, same in by_shape.items():
                moves = orthogonalized(torch.stack([self._momentum(one) for one in same]))
                rate = group["lr"] * _RMS * max(shape) ** 0.5
                for one, move in zip(same, moves, strict=True):
                    one.mul_(1 - group["lr"] * _DECAY).sub_(move, alpha=rate)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Nesterov's, of one matrix."""
        assert parameter.grad is not None
        mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
        mean.lerp_(parameter.grad, 1 - _MOMENTUM)
        return parameter.grad.lerp(mean, _MOMENTUM)


def orthogonalized(matrices: Tensor) -> Tensor:
    """About the U V' of each matrix U S V', by a Newton-Schulz iteration.

    Args:
        matrices: `[count, rows, columns]`.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if is_tall else matrices).to(product_type())
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)
