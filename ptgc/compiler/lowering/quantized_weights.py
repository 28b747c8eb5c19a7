"""Weights that QuantizeWeightsPass made, and replacing what reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ptgc.graphs.linear import bias_of
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place

_BITS = {ir.DataType.INT4: 4, ir.DataType.INT8: 8}


@dataclass(frozen=True)
class QuantizedWeights:
    """A matrix `[out, in]` of symmetric integers in blocks along `in`."""

    dequantize: ir.Node
    """The DequantizeLinear that reads it."""
    name: str
    """What names of initialisers made from it start with."""
    outputs: int
    """Rows."""
    inputs: int
    """Columns."""
    bits: int
    """4 or 8."""
    block_size: int
    """Columns that share a scale."""
    scales: ir.Value
    """`[out, in / block_size]`, float32."""

    @staticmethod
    def of(dequantize: ir.Node) -> QuantizedWeights:
        """The weights that a node dequantises."""
        quantized, scales = dequantize.inputs[:2]
        assert quantized is not None and quantized.const_value is not None
        assert scales is not None and scales.name is not None
        outputs, inputs = quantized.const_value.shape.numpy()
        return QuantizedWeights(
            dequantize,
            scales.name.removesuffix(".scales"),
            outputs,
            inputs,
            _BITS[quantized.const_value.dtype],
            dequantize.attributes.get_int("block_size", 0),
            scales,
        )

    def with_offset(self) -> np.ndarray:
        """The bytes as unsigned numbers, `[out, bytes]`."""
        quantized = self.dequantize.inputs[0]
        assert quantized is not None and quantized.const_value is not None
        return with_offset(quantized.const_value, self.bits).reshape(self.outputs, -1)

    def replace(
        self,
        graph: ir.Graph,
        gather: Callable[[Piece, ir.Value], ir.Value],
        product: Callable[[Piece, ir.Value, ir.Value | None], ir.Value],
    ) -> None:
        """Replace every use: `gather` reads rows by id, `product` multiplies rows and adds a bias."""
        for use in list(self.dequantize.outputs[0].uses()):
            if use.node.op_type == "Gather":
                piece, ids = _piece_of(use.node), use.node.inputs[1]
                assert ids is not None
                _take_place(graph, use.node, use.node, piece, gather(piece, ids))
                continue
            for reader in list(use.node.outputs[0].uses()):
                piece, rows, bias = _piece_of(reader.node), reader.node.inputs[0], bias_of(reader.node.outputs[0])
                assert rows is not None
                out = product(piece, rows, bias[1] if bias else None)
                _take_place(graph, reader.node, bias[0] if bias else reader.node, piece, out)
            graph.remove(use.node, safe=True)
        graph.remove(self.dequantize, safe=True)


def with_offset(tensor: ir.TensorProtocol, bits: int) -> np.ndarray:
    """The bytes as unsigned numbers with offset 8 or 128: two's complement with the sign bit flipped."""
    raw = np.frombuffer(tensor.tobytes(), dtype=np.uint8)
    turned: np.ndarray = np.bitwise_xor(raw, np.uint8(0x88 if bits == 4 else 0x80))
    return turned


def quantized_weights(graph: ir.Graph) -> list[QuantizedWeights]:
    """All of a graph."""
    return [QuantizedWeights.of(node) for node in graph if node.op_type == "DequantizeLinear"]


def _piece_of(node: ir.Node) -> Piece:
    return Piece(node.metadata_props.get(MODULE_KEY, ""))


def _take_place(graph: ir.Graph, first: ir.Node, last: ir.Node, piece: Piece, out: ir.Value) -> None:
    """Replace both nodes by the piece, at the place of `last`."""
    piece.insert_before(last)
    take_place(out, last.outputs[0])
    graph.remove([last] if first is last else [last, first], safe=True)
