"""WidenChoicesPass: ArgMax and TopK of bfloat16 numbers read float32."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece

_CHOICES = frozenset({"ArgMax", "TopK"})


class WidenChoicesPass(ir.passes.InPlacePass):
    """ArgMax and TopK get a Cast to float32 in front, which changes neither order nor ties.

    ONNX Runtime's CUDA provider has no kernels of either for bfloat16 (1.31.1).

    Requires: types of values (SetHalfTypePass).
    Ensures: no ArgMax or TopK reads bfloat16; the values of TopK are cast back to bfloat16.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        modified = False
        for node in list(model.graph):
            numbers = node.inputs[0] if node.op_type in _CHOICES else None
            if numbers is None or numbers.dtype is not ir.DataType.BFLOAT16:
                continue
            piece = Piece(node.metadata_props.get(MODULE_KEY, ""))
            wide = piece.op("Cast", numbers, to=ir.DataType.FLOAT)
            wide.shape, wide.dtype = numbers.shape, ir.DataType.FLOAT
            piece.insert_before(node)
            node.replace_input_with(0, wide)
            if node.op_type == "TopK":
                _narrow(node)
            modified = True
        return ir.passes.PassResult(model, modified)


def _narrow(node: ir.Node) -> None:
    """Cast the values of a TopK back to bfloat16."""
    chosen, graph = node.outputs[0], node.graph
    assert graph is not None
    piece = Piece(node.metadata_props.get(MODULE_KEY, ""))
    narrow = piece.op("Cast", chosen, to=ir.DataType.BFLOAT16)
    narrow.shape, narrow.dtype = chosen.shape, ir.DataType.BFLOAT16
    was_output, name = chosen.is_graph_output(), chosen.name
    chosen.replace_all_uses_with(narrow, replace_graph_outputs=True)
    cast = narrow.producer()
    assert cast is not None
    cast.replace_input_with(0, chosen)
    chosen.dtype = ir.DataType.FLOAT
    if was_output:
        chosen.name, narrow.name = f"{name}.wide", name
    graph.insert_after(node, piece.nodes)
