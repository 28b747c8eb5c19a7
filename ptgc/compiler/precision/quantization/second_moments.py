"""Second moments of the inputs of a role's matrices, over a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from ptgc.compiler.precision.quantization.observation import Point, Statistic, linear_points, observe
from ptgc.graphs.piece import Piece
from ptgc.spec.role import Role

Moments = Iterator[dict[str, np.ndarray]]
"""`[in, in]` by the name of the input, in portions that fit in memory; see `observation.observe`."""


def second_moments(
    model: ir.Model, role: Role, text: Sequence[Sequence[int]], points: Sequence[Point] | None = None
) -> Moments:
    """The sum of x xᵀ over every input x of every linear layer.

    Args:
        model: The graph in float32.
        role: Its ports.
        text: Sequences of tokens; without any, nothing is yielded.
        points: Points to observe instead of the inputs of linear layers.
    """
    return observe(model, role, text, linear_points(model) if points is None else points, _MOMENTS)


def _write(piece: Piece, rows: ir.Value, name: str) -> ir.Value:  # noqa: ARG001  # the same for every point
    return piece.op("Gemm", rows, rows, transA=1)


_MOMENTS = Statistic("moments", _write, lambda features: (features, features), np.add)
