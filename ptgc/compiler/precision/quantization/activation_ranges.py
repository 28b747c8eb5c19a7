"""Ranges of the inputs of a role's linear layers, over a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ptgc.compiler.precision.quantization.observation import Statistic, observe_all
from ptgc.graphs.piece import Piece
from ptgc.spec.role import Role


def activation_ranges(model: ir.Model, role: Role, text: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """The largest magnitude in every channel of every input of a linear layer.

    Args:
        model: The graph in float32; see `observation.observe`.
        role: Its ports.
        text: Sequences of tokens.

    Returns:
        `[in]` by the name of the input; empty without a text.
    """
    return observe_all(model, role, text, _RANGES)


def _write(piece: Piece, rows: ir.Value, input_name: str) -> ir.Value:  # noqa: ARG001  # the same for every input
    return piece.op("ReduceMax", piece.op("Abs", rows), piece.constant([0]), keepdims=0)


_RANGES = Statistic("ranges", _write, lambda in_features: (in_features,), np.maximum)
