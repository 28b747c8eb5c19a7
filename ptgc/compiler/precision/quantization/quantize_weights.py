"""QuantizeWeightsPass: matrices become symmetric integers or 8-bit floats, as standard DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.compiler.precision.quantization.round_matrix import Rounded, round_matrix
from ptgc.compiler.precision.quantization.vocabulary_matrices import is_embedding
from ptgc.compiler.precision.quantization.weight_format import WeightFormat
from ptgc.graphs.linear import Linear, linears
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer

_NO_OTHERS: Mapping[ir.Value, WeightFormat | None] = MappingProxyType({})


class QuantizeWeightsPass(ir.passes.InPlacePass):
    """Constant matrices of linear layers, and embeddings, become DequantizeLinear over blocks of the input axis.

    A matrix that serves as both embedding and head is quantised once. Matrices that no block size divides stay as they
    are.

    Args:
        weight_format: The format that they get; None leaves them as they are.
        quantizer: How they are rounded.
        moments: Second moments of the inputs of linear layers, by the input's name, a portion at a time. For a matrix
            that several layers share, the moments of all their inputs are added.
        others: Matrices that get another format; None leaves a matrix as it is.
    """

    def __init__(
        self,
        weight_format: WeightFormat | None,
        quantizer: Quantizer = Quantizer.RTN,
        moments: Iterable[Mapping[str, np.ndarray]] = (),
        others: Mapping[ir.Value, WeightFormat | None] = _NO_OTHERS,
    ) -> None:
        super().__init__()
        self._format = weight_format
        self._quantizer = quantizer
        self._moments = moments
        self._others = others

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        tied: dict[ir.Value, ir.Value] = {}
        modified = False
        # Rounding comes before changing the graph: moments arrive in portions, but constants shall be in graph order.
        rounded = self._round_with_moments(model.graph)
        for linear in linears(model.graph):
            modified = self._quantize_linear(model.graph, linear, tied, rounded) or modified
        for node in list(model.graph):
            if is_embedding(node):
                modified = self._quantize_gather(model.graph, node, tied) or modified
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)

    def _round_with_moments(self, graph: ir.Graph) -> dict[ir.Value, Rounded]:
        """Round the matrices whose inputs' moments are known."""
        layers = linears(graph)
        inputs: dict[ir.Value, set[str]] = {}
        for linear in layers:
            inputs.setdefault(linear.weight, set()).add(linear.input_name)
        waiting: dict[ir.Value, dict[str, np.ndarray]] = {}
        rounded: dict[ir.Value, Rounded] = {}
        for portion in self._moments:
            for linear in layers:
                if linear.weight in rounded or linear.input_name not in portion:
                    continue
                known = waiting.setdefault(linear.weight, {})
                known[linear.input_name] = portion[linear.input_name]
                if known.keys() != inputs[linear.weight]:
                    continue
                first, *others = (array for _, array in sorted(waiting.pop(linear.weight).items()))
                found = self._round(linear.weight, _matrix(linear), sum(others, start=first))
                if found is not None:
                    rounded[linear.weight] = found
        return rounded

    def _round(self, weight: ir.Value, matrix: np.ndarray, moments: np.ndarray | None) -> Rounded | None:
        """A matrix `[in, out]` rounded to its format; None if it stays as it is."""
        wanted = self._others.get(weight, self._format)
        block_size = wanted.block_size(len(matrix)) if wanted is not None else None
        if wanted is None or block_size is None:
            return None
        return round_matrix(matrix, wanted, block_size, self._quantizer, moments)

    def _quantize_linear(
        self, graph: ir.Graph, linear: Linear, tied: dict[ir.Value, ir.Value], rounded: dict[ir.Value, Rounded]
    ) -> bool:
        path = linear.node.metadata_props.get(MODULE_KEY, "")
        if linear.weight not in tied:
            found = rounded.pop(linear.weight, None) or self._round(linear.weight, _matrix(linear), None)
            if found is None:
                return False
            tied[linear.weight] = _dequantized(graph, linear.weight, found, linear.node)
        piece = Piece(path)
        turned = piece.op("Transpose", tied[linear.weight], perm=[1, 0])
        piece.insert_before(linear.node)
        linear.node.replace_input_with(1, turned)
        return True

    def _quantize_gather(self, graph: ir.Graph, gather: ir.Node, tied: dict[ir.Value, ir.Value]) -> bool:
        table = gather.inputs[0]
        assert table is not None
        if table not in tied:
            found = self._round(table, _float32(table).T, None)
            if found is None:
                return False
            tied[table] = _dequantized(graph, table, found, gather)
        producer = tied[table].producer()
        assert producer is not None
        graph.remove(producer)
        graph.insert_before(gather, producer)
        gather.replace_input_with(0, tied[table])
        return True


def _dequantized(graph: ir.Graph, weight: ir.Value, rounded: Rounded, before: ir.Node) -> ir.Value:
    """Insert a DequantizeLinear over `[out, in]` in front of a node.

    Args:
        graph: The graph to insert into.
        weight: The constant that it replaces.
        rounded: Its numbers and scales.
        before: The node that reads it.
    """
    numbers, scales = rounded
    values = [
        add_initializer(graph, f"{weight.name}.{suffix}", array)
        for suffix, array in (("quantized", numbers), ("scales", scales))
    ]
    piece = Piece(before.metadata_props.get(MODULE_KEY, ""))
    if scales.ndim == 1:
        out = piece.op("DequantizeLinear", *values, axis=0)
    else:
        block_size = numbers.shape[1] // scales.shape[1]
        out = piece.op("DequantizeLinear", *values, axis=1, block_size=block_size)
    out.shape, out.dtype = ir.Shape(numbers.shape), ir.DataType.FLOAT
    piece.insert_before(before)
    return out


def _matrix(linear: Linear) -> np.ndarray:
    """The weight as float32 `[in, out]`."""
    matrix = _float32(linear.weight)
    return matrix.T if linear.transposed else matrix


def _float32(weight: ir.Value) -> np.ndarray:
    assert weight.const_value is not None
    return weight.const_value.numpy().astype(np.float32, copy=False)
