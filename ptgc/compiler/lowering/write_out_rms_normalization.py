"""WriteOutRMSNormalizationPass: writes root mean square norms with basic operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place


class WriteOutRMSNormalizationPass(ir.passes.InPlacePass):
    """`x / sqrt(mean(x²) + epsilon) * scale` (Zhang and Sennrich, arXiv 1910.07467, equation 4) in basic operators.

    The square is a Pow rather than a product, because SetHalfTypePass keeps powers and what follows from them in
    float32, where the square of 256 does not overflow.

    Requires: a norm whose axis is negative, or an input of known rank.
    Ensures: no RMSNormalization is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        nodes = [node for node in model.graph if node.op_type == "RMSNormalization"]
        for node in nodes:
            _write_out(model.graph, node)
        return ir.passes.PassResult(model, bool(nodes))


def _write_out(graph: ir.Graph, norm: ir.Node) -> None:
    x, scale = norm.inputs
    assert x is not None
    piece = Piece(norm.metadata_props.get(MODULE_KEY, ""))
    op = piece.op
    epsilon = piece.constant(np.array(norm.attributes.get_float("epsilon", 1e-5), np.float32))
    squares = op("Pow", x, piece.constant(np.array(2, np.float32)))
    mean = op("ReduceMean", squares, piece.constant(_axes(x, norm.attributes.get_int("axis", -1))), keepdims=1)
    root = op("Sqrt", op("Add", mean, epsilon))
    out = op("Mul", op("Mul", x, op("Reciprocal", root)), scale)
    piece.insert_before(norm)
    take_place(out, norm.outputs[0])
    graph.remove(norm, safe=True)


def _axes(x: ir.Value, first: int) -> list[int]:
    """The axes from `first` to the last, counted from the end."""
    if first >= 0:
        assert x.shape is not None
        first -= len(x.shape)
    return list(range(first, 0))
