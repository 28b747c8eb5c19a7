"""ExpandAttentionMaskPass: gives every attention mask one row for each query row."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece


class ExpandAttentionMaskPass(ir.passes.InPlacePass):
    """A mask `[batch, 1, 1, keys]`, one for all rows, becomes `[batch, 1, rows, keys]`.

    The standard allows broadcasting; ONNX Runtime does not. Ensures: masks with shapes have as many rows as the query.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run on the main graph."""
        expanded: dict[tuple[ir.Value, object], ir.Value] = {}
        modified = False
        for node in list(model.graph):
            if node.op_type == "Attention" and _is_one_row(node):
                _expand(node, expanded)
                modified = True
        return ir.passes.PassResult(model, modified)


def _is_one_row(attention: ir.Node) -> bool:
    query = attention.inputs[0]
    mask = attention.inputs[3] if len(attention.inputs) > 3 else None
    if mask is None or mask.shape is None or query is None or query.shape is None:
        return False
    return len(mask.shape) == 4 and mask.shape[-2] == 1 and query.shape[-2] != 1


def _expand(attention: ir.Node, expanded: dict[tuple[ir.Value, object], ir.Value]) -> None:
    """Expand a mask once for each number of rows, before the first attention that needs it."""
    query, mask = attention.inputs[0], attention.inputs[3]
    assert query is not None and query.shape is not None and mask is not None and mask.shape is not None
    key = (mask, query.shape[-2])
    if key not in expanded:
        piece = Piece(attention.metadata_props.get(MODULE_KEY, ""))
        rows = piece.op("Shape", query, start=2, end=3)
        one = piece.constant([1])
        expanded[key] = piece.op("Expand", mask, piece.op("Concat", one, one, rows, one, axis=0))
        expanded[key].shape = ir.Shape([*mask.shape[:2], query.shape[-2], mask.shape[3]])
        expanded[key].type = mask.type
        piece.insert_before(attention)
    attention.replace_input_with(3, expanded[key])
