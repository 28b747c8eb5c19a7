"""LowerQuantizedWeightsPass: standard dequantised weights become ONNX Runtime's block-quantised operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ptgc.graphs.linear import bias_of
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer, take_place

_BITS = {ir.DataType.INT4: 4, ir.DataType.INT8: 8}


class LowerQuantizedWeightsPass(ir.passes.InPlacePass):
    """DequantizeLinear -> Transpose -> MatMul becomes MatMulNBits, DequantizeLinear -> Gather GatherBlockQuantized.

    Both operators read the same bytes, so a tied embedding is stored once. Activations are quantised per block of
    each row (accuracy_level 4): no row's result depends on another row.

    Requires: symmetric weights `[out, in]` in blocks along `in`, as QuantizeWeightsPass makes them.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        found = [node for node in model.graph if node.op_type == "DequantizeLinear"]
        for node in found:
            _lower(model.graph, node)
        return ir.passes.PassResult(model, bool(found))


def _lower(graph: ir.Graph, dequantize: ir.Node) -> None:
    quantized, scales = dequantize.inputs[:2]
    assert quantized is not None and scales is not None and quantized.const_value is not None
    block_size = dequantize.attributes.get_int("block_size", 0)
    rows, columns = quantized.const_value.shape.numpy()
    bits = _BITS[quantized.const_value.dtype]
    offset = with_offset(quantized.const_value, bits)
    for use in list(dequantize.outputs[0].uses()):
        if use.node.op_type == "Gather":
            _lower_gather(graph, use.node, offset.reshape(rows, -1), scales, bits, block_size)
        else:
            blocks = offset.reshape(rows, columns // block_size, block_size * bits // 8)
            for product in list(use.node.outputs[0].uses()):
                _lower_product(graph, product.node, blocks, scales, bits, block_size)
            graph.remove(use.node, safe=True)
    graph.remove(dequantize, safe=True)


def with_offset(tensor: ir.TensorProtocol, bits: int) -> np.ndarray:
    """The bytes as unsigned numbers with offset 8 or 128: two's complement with the sign bit flipped."""
    raw = np.frombuffer(tensor.tobytes(), dtype=np.uint8)
    turned: np.ndarray = np.bitwise_xor(raw, np.uint8(0x88 if bits == 4 else 0x80))
    return turned


def _lower_gather(
    graph: ir.Graph, gather: ir.Node, table: np.ndarray, scales: ir.Value, bits: int, block_size: int
) -> None:
    piece = Piece(gather.metadata_props.get(MODULE_KEY, ""))
    assert scales.name is not None
    data = add_initializer(graph, scales.name.removesuffix(".scales") + ".table", table)
    out = piece.op(
        "GatherBlockQuantized",
        data,
        gather.inputs[1],
        scales,
        domain="com.microsoft",
        bits=bits,
        block_size=block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    _replace(graph, gather, gather, piece, out)


def _lower_product(
    graph: ir.Graph, product: ir.Node, blocks: np.ndarray, scales: ir.Value, bits: int, block_size: int
) -> None:
    piece = Piece(product.metadata_props.get(MODULE_KEY, ""))
    assert scales.name is not None
    data = add_initializer(graph, scales.name.removesuffix(".scales") + ".blocks", blocks)
    bias = bias_of(product.outputs[0])
    inputs = [product.inputs[0], data, scales]
    if bias is not None:
        inputs += [None, None, bias[1]]
    out = piece.op(
        "MatMulNBits",
        *inputs,
        domain="com.microsoft",
        K=blocks.shape[1] * block_size,
        N=blocks.shape[0],
        bits=bits,
        block_size=block_size,
        accuracy_level=4,
    )
    _replace(graph, product, bias[0] if bias else product, piece, out)


def _replace(graph: ir.Graph, first: ir.Node, last: ir.Node, piece: Piece, out: ir.Value) -> None:
    """Replace both nodes by the piece, at the place of `last`."""
    piece.insert_before(last)
    take_place(out, last.outputs[0])
    graph.remove([last] if first is last else [last, first], safe=True)
