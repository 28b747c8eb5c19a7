"""NormalizeLinearPass: one spelling for matrix products with constant weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ptgc.graphs.linear import is_matrix, only_user
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import adopt


class NormalizeLinearPass(ir.passes.InPlacePass):
    """Reshape -> Gemm -> Reshape over a flattened batch becomes MatMul -> Add.

    GPT-2's Conv1D is exported so. Ensures: no Gemm with a constant weight whose input was flattened is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
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
        if gemm.attributes.get_int("transB", 0):
            weight = piece.op("Transpose", weight, perm=[1, 0])
        out = piece.op("MatMul", flatten.inputs[0], weight)
        if bias is not None:
            out = piece.op("Add", out, bias)
        old = restore.outputs[0]
        adopt(out, old)
        piece.insert_before(restore)
        old.replace_all_uses_with(out, replace_graph_outputs=True)
        graph.remove([restore, gemm], safe=True)
        if not flatten.outputs[0].uses():
            graph.remove(flatten, safe=True)
        return True


def _keeps_rows(flatten: ir.Node, restore: ir.Node) -> bool:
    """Whether [batch, rows, in] was flattened to [batch * rows, in], and [batch, rows, out] restored."""
    before, after = flatten.inputs[0], restore.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return False
    flat = flatten.inputs[1]
    shape = flat.const_value.numpy() if flat is not None and flat.const_value is not None else None
    rows_flattened = shape is None or (len(shape) == 2 and int(np.asarray(shape)[0]) == -1)
    return rows_flattened and len(before.shape) == 3 and len(after.shape) == 3
