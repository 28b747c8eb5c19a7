"""What the inputs of a role's linear layers lose by rounding, over a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ptgc.compiler.precision.quantization.observation import Statistic, observe_all
from ptgc.graphs.piece import Piece
from ptgc.spec.role import Role


def rounding_losses(
    model: ir.Model,
    role: Role,
    text: Sequence[Sequence[int]],
    scales: Mapping[str, float],
    dtype: ir.DataType,
) -> dict[str, float]:
    """`mean over rows of ‖x - round(x)‖² / ‖x‖²` of every input of a linear layer.

    The mean is over rows, not over energy. If one token has numbers a thousand times as large as the others (Sun et
    al., Massive Activations, arXiv 2402.17762), a common scale rounds the others away, and this must show.

    Args:
        model: The graph in float32; see `observation.observe`.
        role: Its ports.
        text: Sequences of tokens.
        scales: The scale of every input, by its name.
        dtype: The type to round to: INT8 or FLOAT8E4M3FN.

    Returns:
        Losses from 0 to 1, by the name of the input; empty without a text.
    """

    def write(piece: Piece, rows: ir.Value, input_name: str) -> ir.Value:
        op, constant = piece.op, piece.constant
        scale = constant(np.array(scales[input_name], np.float32))
        lost = op("Sub", rows, op("DequantizeLinear", op("QuantizeLinear", rows, scale, output_dtype=dtype), scale))
        energy = op("ReduceSumSquare", rows, constant([1]), keepdims=0)
        least = constant(np.array(np.finfo(np.float32).tiny))  # rows of zeros lose nothing
        shares = op("Div", op("ReduceSumSquare", lost, constant([1]), keepdims=0), op("Max", energy, least))
        count = op("Cast", op("Shape", shares), to=ir.DataType.FLOAT)
        return op("Concat", op("ReduceSum", shares, keepdims=1), count, axis=0)

    statistic = Statistic("losses", write, lambda in_features: (2,), np.add)  # noqa: ARG005  # a sum and a count
    found = observe_all(model, role, text, statistic)
    return {name: float(total / count) for name, (total, count) in found.items()}
