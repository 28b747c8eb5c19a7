"""QuantizeInputsPass: rounds the inputs of quantised matrices, as standard QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer, copy_type


class QuantizeInputsPass(ir.passes.InPlacePass):
    """Inputs of matrix products with dequantised weights go through QuantizeLinear and DequantizeLinear.

    A scale is one constant for a whole input, so no row's result depends on another row. Layers that read the same
    input share both nodes.

    Requires: QuantizeWeightsPass has run; inputs of other matrices stay as they are.

    Args:
        scales: Positive scales by the input's name; inputs without a scale stay as they are.
        dtype: INT8 or FLOAT8E4M3FN.
    """

    def __init__(self, scales: Mapping[str, float], dtype: ir.DataType) -> None:
        super().__init__()
        self._scales = scales
        self._dtype = dtype

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        made: dict[ir.Value, ir.Value] = {}
        for node in list(model.graph):
            value = node.inputs[0] if _is_quantized_product(node) else None
            scale = self._scales.get(value.name or "") if value is not None else None
            if value is None or scale is None:
                continue
            if value not in made:
                made[value] = self._rounded(model.graph, value, scale, node)
            node.replace_input_with(0, made[value])
        return ir.passes.PassResult(model, bool(made))

    def _rounded(self, graph: ir.Graph, value: ir.Value, scale: float, before: ir.Node) -> ir.Value:
        piece = Piece(before.metadata_props.get(MODULE_KEY, ""))
        constant = add_initializer(graph, f"{value.name}.scale", np.array(scale, np.float32))
        rounded = piece.op("QuantizeLinear", value, constant, output_dtype=self._dtype)
        rounded.name, rounded.shape, rounded.dtype = f"{value.name}.quantized", value.shape, self._dtype
        out = piece.op("DequantizeLinear", rounded, constant)
        copy_type(out, value)
        out.name = f"{value.name}.dequantized"
        piece.insert_before(before)
        return out


def _is_quantized_product(node: ir.Node) -> bool:
    """Whether a node is a MatMul by a dequantised constant."""
    if node.op_type != "MatMul" or node.inputs[1] is None:
        return False
    turned = node.inputs[1].producer()
    if turned is None or turned.op_type != "Transpose" or turned.inputs[0] is None:
        return False
    producer = turned.inputs[0].producer()
    return producer is not None and producer.op_type == "DequantizeLinear"
