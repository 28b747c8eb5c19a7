"""LowerBlockProductsPass: standard dequantised weights become ptgc's own operators over blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ptgc.compiler.lowering.quantized_weights import QuantizedWeights, quantized_weights
from ptgc.graphs.piece import Piece
from ptgc.graphs.values import add_initializer

DOMAIN = "ptgc"
"""Of the operators that the runtime brings along."""
TILE = 16
"""Outputs that are stored together."""


class LowerBlockProductsPass(ir.passes.InPlacePass):
    """DequantizeLinear -> Transpose -> MatMul becomes BlockProduct, DequantizeLinear -> Gather BlockGather.

    Both read the same bytes, in the order that the kernels read them (runtime/src/kernels/block_product.h), so a tied
    embedding is stored once, and nothing is packed again at load. Rows are rounded to int8 per block; a row has the
    same bits among any others, and on any processor.

    Requires: symmetric weights `[out, in]` in blocks of a multiple of 16 along `in`, as QuantizeWeightsPass makes them.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        found = quantized_weights(model.graph)
        if found:
            model.graph.opset_imports[DOMAIN] = 1
        for weights in found:
            _lower(model.graph, weights)
        return ir.passes.PassResult(model, bool(found))


def _lower(graph: ir.Graph, weights: QuantizedWeights) -> None:
    scales = weights.scales.const_value
    assert scales is not None
    tiles = in_tiles(weights.with_offset(), weights.bits)
    values = add_initializer(graph, weights.name + ".tiles", tiles)
    by_tile = add_initializer(graph, weights.name + ".tile_scales", scales_in_tiles(scales.numpy()))
    about: dict[str, Any] = {
        "domain": DOMAIN,
        "K": weights.inputs,
        "N": weights.outputs,
        "bits": weights.bits,
        "block_size": weights.block_size,
    }

    def gather(piece: Piece, ids: ir.Value) -> ir.Value:
        return piece.op("BlockGather", ids, values, by_tile, **about)

    def product(piece: Piece, rows: ir.Value, bias: ir.Value | None) -> ir.Value:
        inputs = (rows, values, by_tile, *(() if bias is None else (bias,)))
        return piece.op("BlockProduct", *inputs, gated=0, epsilon=0.0, **about)

    weights.replace(graph, gather, product)


def in_tiles(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned weights in tiles of 16 outputs: 64 bytes hold 4 inputs of each, or 8 in int4.

    Args:
        values: `[out, in]`, or `[out, in / 2]` with two int4 weights in a byte, the first in the low half.
        bits: Of a weight.

    Returns:
        uint8 `[tiles, in * bits / 32, 64]`; outputs that are missing in the last tile are zero weights.
    """
    zero = 128 if bits == 8 else 0x88
    padded = np.pad(values, ((0, -len(values) % TILE), (0, 0)), constant_values=zero)
    if bits == 4:
        halves = np.stack([padded & 15, padded >> 4], axis=-1).reshape(len(padded), -1, 2, 4)
        padded = (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(len(padded), -1)
    lines = padded.reshape(-1, TILE, padded.shape[1] // 4, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(lines).reshape(len(lines), -1, 4 * TILE)


def scales_in_tiles(scales: np.ndarray) -> np.ndarray:
    """Scales `[out, blocks]` as `[tiles, blocks, 16]`, float16 if that holds them exactly, else float32."""
    padded = np.pad(scales.astype(np.float32), ((0, -len(scales) % TILE), (0, 0)))
    with np.errstate(over="ignore"):
        halves = padded.astype(np.float16)
    stored = halves if np.array_equal(halves, padded) else padded
    return np.ascontiguousarray(stored.reshape(-1, TILE, scales.shape[1]).transpose(0, 2, 1))
