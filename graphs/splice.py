"""Taking the nodes of one graph into a piece of another."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ptgc.graphs.piece import Piece


def splice(piece: Piece, model: ir.Model, inputs: Sequence[ir.Value]) -> list[ir.Value]:
    """Repeat the nodes of a graph in a piece; its weights become constants.

    Args:
        piece: Where the nodes go.
        model: The graph, without subgraphs; it is not changed.
        inputs: What takes the place of its inputs, in their order.

    Returns:
        What takes the place of its outputs.
    """
    values: dict[ir.Value | None, ir.Value | None] = {None: None}
    values |= dict(zip(model.graph.inputs, inputs, strict=True))
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        values[value] = piece.constant(value.const_value.numpy())
    for node in model.graph:
        made = piece.op_outputs(
            node.op_type,
            *(values[one] for one in node.inputs),
            domain=node.domain,
            outputs=len(node.outputs),
            **node.attributes,
        )
        values |= dict(zip(node.outputs, made, strict=True))
    found = [values[one] for one in model.graph.outputs]
    return [one for one in found if one is not None]
