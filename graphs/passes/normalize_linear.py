"""NormalizeLinearPass: one form for matrix products with constant weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ptgc.graphs.linear import is_matrix, only_user
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place


class NormalizeLinearPass(ir.passes.InPlacePass):
    """Reshape -> Gemm -> Reshape over a flattened batch becomes MatMul -> Add.

    GPT-2's Conv1D is exported in this form. Ensures: no Gemm with a constant weight and a flattened input is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run on the main graph."""
        modified = False
        for node in list(model.graph):
            if node.op_type == "Gemm" and self._rewrite(model.graph, node):
                modified = True
        return ir.passes.PassResult(model, modified)

    def _rewrite(self, graph: ir.Graph, gemm: ir.Node) -> bool:
        x, weight, bias = (*gemm.inputs, None)[:3]
        flatten = x.producer() if x is not None else None
        restore = only_user(gemm.outputs[0], "Reshape")
        plain = all(gemm.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        plain = plain and gemm.attributes.get_int("transA", 0) == 0
        if not (plain and is_matrix(weight) and restore and flatten and flatten.op_type == "Reshape"):
            return False
        if flatten.inputs[0] is None or not _keeps_rows(flatten, restore):
            return False
        piece = Piece(gemm.metadata_props.get(MODULE_KEY, ""))
        rows: ir.Value | None = flatten.inputs[0]
        assert rows is not None and rows.shape is not None
        if len(rows.shape) == 4:  # heads and head size, flattened in the same step
            rows = piece.op("Reshape", rows, piece.constant([0, 0, -1]))
            assert x is not None and x.shape is not None and restore.outputs[0].shape is not None
            rows.shape, rows.type = ir.Shape([*restore.outputs[0].shape[:2], x.shape[1]]), x.type
        if gemm.attributes.get_int("transB", 0):
            weight = piece.op("Transpose", weight, perm=[1, 0])
        out = piece.op("MatMul", rows, weight)
        if bias is not None:
            out = piece.op("Add", out, bias)
        old = restore.outputs[0]
        piece.insert_before(restore)
        take_place(out, old)
        graph.remove([restore, gemm], safe=True)
        if not flatten.outputs[0].uses():
            graph.remove(flatten, safe=True)
        return True


def _keeps_rows(flatten: ir.Node, restore: ir.Node) -> bool:
    """Whether [batch, rows, ...] was flattened to [batch * rows, in], and [batch, rows, out] restored."""
    before, after = flatten.inputs[0], restore.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return False
    flat = flatten.inputs[1]
    shape = flat.const_value.numpy() if flat is not None and flat.const_value is not None else None
    rows_flattened = shape is None or (len(shape) == 2 and int(np.asarray(shape)[0]) == -1)
    return rows_flattened and len(before.shape) in (3, 4) and len(after.shape) == 3
