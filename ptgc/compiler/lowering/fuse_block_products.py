"""FuseBlockProductsPass: norms before products of quantised weights, and gates behind them, become part of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ptgc.compiler.lowering.block_products import TILE
from ptgc.graphs.linear import only_user
from ptgc.graphs.values import take_place


class FuseBlockProductsPass(ir.passes.InPlacePass):
    """Each BlockProduct takes in the norm of its rows, with the residual sum before it, and the gate of its outputs.

    A round of one row costs mostly what its weights take to be read; what is left are operators that do next to
    nothing, and each has a price of its own. Their arithmetic is the operator's, which has the same bits on every
    processor.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        products = [node for node in model.graph if node.op_type == "BlockProduct"]
        normed = [_fuse_norm(model.graph, node) for node in products]
        gated = [_fuse_gate(model.graph, node) for node in products]
        return ir.passes.PassResult(model, any(normed) or any(gated))


def _fuse_norm(graph: ir.Graph, product: ir.Node) -> bool:
    """Take in RMSNormalization or SkipSimplifiedLayerNormalization, if nobody else reads what it gives."""
    rows = product.inputs[0]
    norm = rows.producer() if rows is not None else None
    if norm is None or rows is None or len(rows.uses()) > 1 or rows.is_graph_output():
        return False
    if norm.op_type == "RMSNormalization" and norm.attributes.get_int("axis", -1) == -1:
        given, added, weights = norm.inputs[0], None, norm.inputs[1]
    elif norm.op_type == "SkipSimplifiedLayerNormalization" and len(norm.inputs) == 3:
        given, added, weights = norm.inputs[:3]
    else:
        return False
    product.resize_inputs(6)
    for index, value in ((0, given), (4, added), (5, weights)):
        product.replace_input_with(index, value)
    product.attributes["epsilon"] = ir.AttrFloat32("epsilon", norm.attributes.get_float("epsilon", 1e-5))
    if added is not None:
        product.resize_outputs(2)
        total = product.outputs[1]
        take_place(total, norm.outputs[3])
    graph.remove(norm, safe=True)
    return True


def _fuse_gate(graph: ir.Graph, product: ir.Node) -> bool:
    """Take in Split, SiLU of the first half, and its product with the second."""
    split = only_user(product.outputs[0], "Split")
    if split is None or len(split.outputs) != 2 or len(split.inputs) != 2 or split.inputs[1] is None:
        return False
    constant = ir.convenience.get_const_tensor(split.inputs[1])
    sizes = constant.numpy().tolist() if constant is not None else [0, 1]
    gates, gated = split.outputs
    sigmoid = next((use.node for use in gates.uses() if use.node.op_type == "Sigmoid"), None)
    silu = only_user(sigmoid.outputs[0], "Mul") if sigmoid is not None else None
    last = only_user(silu.outputs[0], "Mul") if silu is not None else None
    if sigmoid is None or silu is None or last is None or sizes[0] != sizes[1] or sizes[0] % TILE:
        return False
    if gates not in silu.inputs or gated not in last.inputs or len(gates.uses()) != 2 or len(gated.uses()) != 1:
        return False
    stored = [value for value in product.inputs[1:4] if value is not None]
    if any(len(value.uses()) != 1 or value.const_value is None for value in stored):
        return False
    for value in stored:
        _interleave(value)
    product.attributes["gated"] = ir.AttrInt64("gated", 1)
    out = product.outputs[0]
    out.shape = last.outputs[0].shape
    take_place(out, last.outputs[0])
    graph.remove([last, silu, sigmoid, split], safe=True)
    return True


def _interleave(value: ir.Value) -> None:
    """Store tiles of the first half and of the second by turns."""
    assert value.const_value is not None
    array = value.const_value.numpy()
    halves = array.reshape(2, -1, *(array.shape[1:] if array.ndim > 1 else (TILE,)))
    turns = np.ascontiguousarray(halves.swapaxes(0, 1)).reshape(array.shape)
    value.const_value = ir.tensor(turns, name=value.name)
