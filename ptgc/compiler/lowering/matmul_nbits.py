"""LowerQuantizedWeightsPass: standard dequantised weights become ONNX Runtime's block-quantised operators."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ptgc.compiler.lowering.quantized_weights import QuantizedWeights, quantized_weights
from ptgc.graphs.piece import Piece
from ptgc.graphs.values import add_initializer


class LowerQuantizedWeightsPass(ir.passes.InPlacePass):
    """DequantizeLinear -> Transpose -> MatMul becomes MatMulNBits, DequantizeLinear -> Gather GatherBlockQuantized.

    Both operators read the same bytes, so a tied embedding is stored once. Activations are quantised per block of
    each row (accuracy_level 4): no row's result depends on another row.

    Requires: symmetric weights `[out, in]` in blocks along `in`, as QuantizeWeightsPass makes them.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        found = quantized_weights(model.graph)
        for weights in found:
            _lower(model.graph, weights)
        return ir.passes.PassResult(model, bool(found))


def _lower(graph: ir.Graph, weights: QuantizedWeights) -> None:
    offset = weights.with_offset()
    about: dict[str, Any] = {"domain": "com.microsoft", "bits": weights.bits, "block_size": weights.block_size}

    def gather(piece: Piece, ids: ir.Value) -> ir.Value:
        table = add_initializer(graph, weights.name + ".table", offset)
        return piece.op("GatherBlockQuantized", table, ids, weights.scales, gather_axis=0, quantize_axis=1, **about)

    def product(piece: Piece, rows: ir.Value, bias: ir.Value | None) -> ir.Value:
        blocks = offset.reshape(weights.outputs, weights.inputs // weights.block_size, -1)
        data = add_initializer(graph, weights.name + ".blocks", blocks)
        added = () if bias is None else (None, None, bias)
        sizes: dict[str, Any] = {"K": weights.inputs, "N": weights.outputs}
        return piece.op("MatMulNBits", rows, data, weights.scales, *added, accuracy_level=4, **sizes, **about)

    weights.replace(graph, gather, product)
