"""SkipNormalizationPass: a residual sum and the norm that follows become one ONNX Runtime operator."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place

_NORMS = {
    "RMSNormalization": "SkipSimplifiedLayerNormalization",
    "LayerNormalization": "SkipLayerNormalization",
}


class SkipNormalizationPass(ir.passes.InPlacePass):
    """Add -> RMSNormalization or LayerNormalization over the last axis becomes its com.microsoft Skip form."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        modified = False
        for node in list(model.graph):
            if node.op_type in _NORMS and node.attributes.get_int("axis", -1) == -1:
                modified = _fuse(model.graph, node) or modified
        return ir.passes.PassResult(model, modified)


def _fuse(graph: ir.Graph, norm: ir.Node) -> bool:
    total = norm.inputs[0]
    add = total.producer() if total is not None else None
    if total is None or add is None or add.op_type != "Add" or len(norm.outputs) > 1:
        return False
    left, right = add.inputs
    if left is None or right is None or left.shape is None or left.shape != right.shape:
        return False  # a broadcast bias, not a residual
    piece = Piece(norm.metadata_props.get(MODULE_KEY, ""))
    normed, _, _, summed = piece.op_outputs(
        _NORMS[norm.op_type],
        left,
        right,
        *norm.inputs[1:],
        domain="com.microsoft",
        outputs=4,
        epsilon=norm.attributes.get_float("epsilon", 1e-5),
    )
    piece.insert_before(add)
    for unused in piece.nodes[0].outputs[1:3]:
        unused.name = ""
    take_place(summed, total)
    take_place(normed, norm.outputs[0])
    graph.remove([norm, add], safe=True)
    return True
