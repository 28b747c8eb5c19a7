"""Weight-only quantisation: matrices become symmetric integers in blocks, as standard DequantizeLinear.

Source of the arithmetic: onnxruntime's own block quantiser (round to nearest, symmetric, the largest magnitude of a
block on the most negative integer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.graphs.linear import Linear, is_matrix, linears
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer
from ptgc.spec import ports


@dataclass(frozen=True)
class WeightFormat:
    """How the weights of a role are stored."""

    bits: int
    """4 or 8."""
    block_sizes: tuple[int, ...]
    """Weights that share a scale, in order of preference; the first that divides a matrix is taken. None: one scale
    for all weights of an output channel."""

    @property
    def per_channel(self) -> bool:
        """Whether a scale serves a whole output channel."""
        return not self.block_sizes

    @property
    def dtype(self) -> Any:
        """Numpy's type of the integers."""
        return ml_dtypes.int4 if self.bits == 4 else np.int8

    def block_size(self, in_features: int) -> int | None:
        """The block for a matrix of that many rows, or None where none divides it."""
        if self.per_channel:
            return in_features
        return next((size for size in self.block_sizes if in_features % size == 0), None)


# int8 loses next to nothing in blocks of 64, and reads a sixteenth less of scales than in blocks of 32; int4 needs 32.
FORMATS = {"int8": WeightFormat(8, (64, 32, 16)), "int4": WeightFormat(4, (32, 16))}


class QuantizeWeightsPass(ir.passes.InPlacePass):
    """Constant matrices of linear layers, and embeddings, become DequantizeLinear over blocks of the input axis.

    A matrix that serves as embedding and head is quantised once. Matrices that no block size divides stay as they
    are.
    """

    def __init__(self, weight_format: WeightFormat) -> None:
        super().__init__()
        self._format = weight_format

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        tied: dict[ir.Value, ir.Value] = {}
        modified = False
        for linear in linears(model.graph):
            modified = self._quantize_linear(model.graph, linear, tied) or modified
        for node in list(model.graph):
            if _is_embedding(node):
                modified = self._quantize_gather(model.graph, node, tied) or modified
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)

    def _quantize_linear(self, graph: ir.Graph, linear: Linear, tied: dict[ir.Value, ir.Value]) -> bool:
        block_size = self._format.block_size(linear.in_features)
        if block_size is None:
            return False
        path = linear.node.metadata_props.get(MODULE_KEY, "")
        if linear.weight not in tied:
            matrix = _float32(linear.weight)
            matrix = matrix.T if linear.transposed else matrix
            tied[linear.weight] = self._dequantized(graph, linear.weight, matrix, block_size, linear.node, path)
        piece = Piece(path)
        turned = piece.op("Transpose", tied[linear.weight], perm=[1, 0])
        piece.insert_before(linear.node)
        linear.node.replace_input_with(1, turned)
        return True

    def _quantize_gather(self, graph: ir.Graph, gather: ir.Node, tied: dict[ir.Value, ir.Value]) -> bool:
        table = gather.inputs[0]
        assert table is not None and table.const_value is not None
        _, columns = table.const_value.shape.numpy()
        block_size = self._format.block_size(columns)
        if block_size is None:
            return False
        if table not in tied:
            path = gather.metadata_props.get(MODULE_KEY, "")
            tied[table] = self._dequantized(graph, table, _float32(table).T, block_size, gather, path)
        producer = tied[table].producer()
        assert producer is not None
        graph.remove(producer)
        graph.insert_before(gather, producer)
        gather.replace_input_with(0, tied[table])
        return True

    def _dequantized(
        self,
        graph: ir.Graph,
        weight: ir.Value,
        matrix: np.ndarray,
        block_size: int,
        before: ir.Node,
        path: str,
    ) -> ir.Value:
        """A DequantizeLinear over `[out, in]` in front of a node; `matrix` is `[in, out]`."""
        if self._format.per_channel:
            integers, scales = quantize_channels(matrix, self._format.bits)
        else:
            integers, scales = quantize_blocks(matrix, self._format.bits, block_size)
        values = []
        for suffix, array in (("quantized", integers.astype(self._format.dtype)), ("scales", scales)):
            name = f"{weight.name}.{suffix}"
            values.append(add_initializer(graph, name, array))
        piece = Piece(path)
        if self._format.per_channel:
            out = piece.op("DequantizeLinear", *values, axis=0)
        else:
            out = piece.op("DequantizeLinear", *values, axis=1, block_size=block_size)
        out.shape, out.dtype = ir.Shape([matrix.shape[1], matrix.shape[0]]), ir.DataType.FLOAT
        piece.insert_before(before)
        return out


def _is_embedding(node: ir.Node) -> bool:
    """Whether the node looks up tokens; positions and other small tables keep their precision."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0 or not is_matrix(node.inputs[0]):
        return False
    ids = node.inputs[1]
    return ids is not None and ids.name == ports.INPUT_IDS.name


def _float32(weight: ir.Value) -> np.ndarray:
    assert weight.const_value is not None
    return weight.const_value.numpy().astype(np.float32, copy=False)


def quantize_blocks(matrix: np.ndarray, bits: int, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers and scales in blocks of the input axis.

    Args:
        matrix: float32 `[in, out]`.
        bits: 4 or 8.
        block_size: Rows that share a scale; divides `in`.

    Returns:
        int8 `[out, in]` and float32 scales `[out, in / block_size]`.
    """
    from onnxruntime.capi import _pybind_state

    kernels: Any = _pybind_state  # compiled, without stubs

    rows, columns = matrix.shape
    blocks = rows // block_size
    packed = np.zeros((columns, blocks, block_size * bits // 8), np.uint8)
    scales = np.zeros(columns * blocks, np.float32)
    zero_points = np.zeros((columns, (blocks * bits + 7) // 8), np.uint8)
    kernel = kernels.quantize_matmul_4bits if bits == 4 else kernels.quantize_matmul_8bits
    kernel(packed, np.ascontiguousarray(matrix), scales, zero_points, block_size, columns, rows, True)
    if bits == 4:
        integers = np.stack([packed & 15, packed >> 4], axis=-1).reshape(columns, rows).astype(np.int8) - 8
    else:
        integers = (packed.reshape(columns, rows) ^ np.uint8(0x80)).view(np.int8)
    return integers, scales.reshape(columns, blocks)


def quantize_channels(matrix: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers with one positive scale for each output channel.

    Args:
        matrix: float32 `[in, out]`.
        bits: 4 or 8.

    Returns:
        int8 `[out, in]` and float32 scales `[out]`.
    """
    largest = (1 << (bits - 1)) - 1
    scales = np.abs(matrix).max(axis=0) / np.float32(largest)
    scales[scales == 0] = 1
    integers = np.rint(matrix / scales).astype(np.int8).T
    return np.ascontiguousarray(integers), scales
