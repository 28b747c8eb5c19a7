"""QuantizeWeightsPass: matrices become symmetric integers or 8-bit floats, as standard DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.quantization.float8 import quantize_float8
from ptgc.compiler.quantization.gptq import quantize_gptq
from ptgc.compiler.quantization.rounding import quantize_blocks, quantize_channels, take_from_grid
from ptgc.compiler.quantization.vocabulary_matrices import is_embedding
from ptgc.compiler.quantization.weight_format import Numbers, WeightFormat
from ptgc.graphs.linear import Linear, linears
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer

_NO_OTHERS: Mapping[ir.Value, WeightFormat | None] = MappingProxyType({})
_LEAST_SCALE = np.float32(2.0**-24)  # the least positive number in half precision, in which no scale may become 0


class QuantizeWeightsPass(ir.passes.InPlacePass):
    """Constant matrices of linear layers, and embeddings, become DequantizeLinear over blocks of the input axis.

    A matrix that serves as embedding and head is quantised once. Matrices that no block size divides stay as they
    are.

    Args:
        weight_format: What they become; None leaves them as they are.
        moments: Second moments of the inputs of linear layers, by the input's name: their matrices are rounded by GPTQ,
            all others to the nearest. A matrix of several layers serves the inputs of all.
        others: Matrices of the graph with another format, or None.
    """

    def __init__(
        self,
        weight_format: WeightFormat | None,
        moments: Mapping[str, np.ndarray],
        others: Mapping[ir.Value, WeightFormat | None] = _NO_OTHERS,
    ) -> None:
        super().__init__()
        self._format = weight_format
        self._moments = moments
        self._others = others

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        tied: dict[ir.Value, ir.Value] = {}
        modified = False
        layers = linears(model.graph)
        moments = self._by_weight(layers)
        for linear in layers:
            modified = self._quantize_linear(model.graph, linear, tied, moments.get(linear.weight)) or modified
        for node in list(model.graph):
            if is_embedding(node):
                modified = self._quantize_gather(model.graph, node, tied) or modified
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)

    def _by_weight(self, layers: Sequence[Linear]) -> dict[ir.Value, np.ndarray]:
        """What is known of the inputs of each matrix; layers with the same input share an array."""
        inputs: dict[ir.Value, set[str]] = {}
        for linear in layers:
            if linear.input_name in self._moments:
                inputs.setdefault(linear.weight, set()).add(linear.input_name)
        found: dict[ir.Value, np.ndarray] = {}
        for weight, names in inputs.items():
            first, *others = (self._moments[name] for name in sorted(names))
            found[weight] = sum(others, start=first)
        return found

    def _quantize_linear(
        self, graph: ir.Graph, linear: Linear, tied: dict[ir.Value, ir.Value], moments: np.ndarray | None
    ) -> bool:
        path = linear.node.metadata_props.get(MODULE_KEY, "")
        if linear.weight not in tied:
            matrix = _float32(linear.weight)
            matrix = matrix.T if linear.transposed else matrix
            made = self._dequantized(graph, linear.weight, matrix, moments, linear.node)
            if made is None:
                return False
            tied[linear.weight] = made
        piece = Piece(path)
        turned = piece.op("Transpose", tied[linear.weight], perm=[1, 0])
        piece.insert_before(linear.node)
        linear.node.replace_input_with(1, turned)
        return True

    def _quantize_gather(self, graph: ir.Graph, gather: ir.Node, tied: dict[ir.Value, ir.Value]) -> bool:
        table = gather.inputs[0]
        assert table is not None
        if table not in tied:
            made = self._dequantized(graph, table, _float32(table).T, None, gather)
            if made is None:
                return False
            tied[table] = made
        producer = tied[table].producer()
        assert producer is not None
        graph.remove(producer)
        graph.insert_before(gather, producer)
        gather.replace_input_with(0, tied[table])
        return True

    def _dequantized(
        self, graph: ir.Graph, weight: ir.Value, matrix: np.ndarray, moments: np.ndarray | None, before: ir.Node
    ) -> ir.Value | None:
        """A DequantizeLinear over `[out, in]` in front of a node; None where the matrix stays as it is.

        Args:
            graph: Takes it.
            weight: The constant that it stands for.
            matrix: Its numbers, `[in, out]`.
            moments: Second moments of what it is multiplied with, where they are known.
            before: The node that reads it.
        """
        wanted = self._others.get(weight, self._format)
        block_size = wanted.block_size(len(matrix)) if wanted is not None else None
        if wanted is None or block_size is None:
            return None
        if wanted.numbers is Numbers.FLOAT:
            integers, scales = quantize_float8(matrix)
        elif moments is not None:
            size = None if wanted.per_channel else block_size
            kept = take_from_grid(matrix, wanted.bits, size)  # nothing is lost, so nothing is to be made up for
            integers, scales = kept or quantize_gptq(matrix, moments, wanted.bits, size)
        elif wanted.per_channel:
            integers, scales = quantize_channels(matrix, wanted.bits)
        else:
            integers, scales = quantize_blocks(matrix, wanted.bits, block_size)
        if wanted.per_channel:
            scales = np.maximum(scales, _LEAST_SCALE)
        values = [
            add_initializer(graph, f"{weight.name}.{suffix}", array)
            for suffix, array in (("quantized", integers.astype(wanted.dtype)), ("scales", scales))
        ]
        piece = Piece(before.metadata_props.get(MODULE_KEY, ""))
        if wanted.per_channel:
            out = piece.op("DequantizeLinear", *values, axis=0)
        else:
            out = piece.op("DequantizeLinear", *values, axis=1, block_size=block_size)
        out.shape, out.dtype = ir.Shape([matrix.shape[1], matrix.shape[0]]), ir.DataType.FLOAT
        piece.insert_before(before)
        return out


def _float32(weight: ir.Value) -> np.ndarray:
    assert weight.const_value is not None
    return weight.const_value.numpy().astype(np.float32, copy=False)
