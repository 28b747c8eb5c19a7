"""PadSingleRowPass: the standard attention of one row, computed as it is among several."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import copy_type
from ptgc.spec import ports


class PadSingleRowPass(ir.passes.InPlacePass):
    """A round of one row attends as two rows, of which the second is dropped.

    ONNX Runtime's kernels add up one row in another order than several; see LowerAttentionPass, which does the same
    for its operator. Keys and values stay as they are: the padded query sees nothing.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        nodes = [node for node in model.graph if node.op_type == "Attention" and not _is_padded(node)]
        if not nodes:
            return ir.passes.PassResult(model, modified=False)
        piece = Piece("ptgc.single_row")
        named = {value.name: value for value in model.graph.inputs}
        rows = piece.op("Shape", named[ports.INPUT_IDS.name], start=1, end=2)
        missing = piece.op("Sub", piece.op("Max", rows, piece.constant([2])), rows)
        nothing = piece.constant([0] * 6)
        padding = piece.op("Concat", nothing, missing, piece.constant([0]), axis=0)  # axis 2 of 4, at its end
        piece.insert_at_start(model.graph)
        masks: dict[ir.Value, ir.Value] = {}
        for node in nodes:
            _pad(node, rows, padding, masks)
        return ir.passes.PassResult(model, modified=True)


def _is_padded(attention: ir.Node) -> bool:
    query = attention.inputs[0]
    producer = query.producer() if query is not None else None
    return producer is not None and producer.op_type == "Pad"


def _pad(attention: ir.Node, rows: ir.Value, padding: ir.Value, masks: dict[ir.Value, ir.Value]) -> None:
    query, mask = attention.inputs[0], attention.inputs[3]
    assert query is not None and mask is not None
    piece = Piece(attention.metadata_props.get(MODULE_KEY, ""))
    if mask not in masks:
        masks[mask] = piece.op("Pad", mask, padding)
    attention.replace_input_with(0, piece.op("Pad", query, padding))
    attention.replace_input_with(3, masks[mask])
    piece.insert_before(attention)
    out = attention.outputs[0]
    users = [(use.node, use.idx) for use in out.uses()]
    after = Piece(piece.name)
    kept = after.op("Slice", out, after.constant([0]), rows, after.constant([2]))
    copy_type(kept, out)
    out.shape = None
    for node, index in users:
        node.replace_input_with(index, kept)
    assert attention.graph is not None
    attention.graph.insert_after(attention, after.nodes)
