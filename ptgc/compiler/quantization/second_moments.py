"""Second moments of what the linear layers of a role read, over a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ptgc.compiler.quantization.observation import Statistic, observe
from ptgc.graphs.piece import Piece
from ptgc.spec.manifest import Role

_BYTES = 1 << 30  # of moments that one pass over the text gives


def second_moments(model: ir.Model, role: Role, text: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """The sum of x xᵀ over every input x of every linear layer.

    Args:
        model: The graph in float32; see `observe`.
        role: Its ports.
        text: Sequences of tokens.

    Returns:
        `[in, in]` by the name of the input; nothing where there is no text.
    """
    return observe(model, role, text, _MOMENTS, _BYTES)


def _write(piece: Piece, rows: ir.Value, input_name: str) -> ir.Value:  # noqa: ARG001  # one of every input
    return piece.op("Gemm", rows, rows, transA=1)


_MOMENTS = Statistic("moments", _write, lambda in_features: (in_features, in_features), np.add)
