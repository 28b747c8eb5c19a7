"""QuantizeExpertsPass: the matrices of experts become numbers and scales, as standard DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.precision.quantization.round_matrix import Rounded
from ptgc.graphs.experts import Stack, stacks
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer


class QuantizeExpertsPass(ir.passes.InPlacePass):
    """Products with a matrix for each expert read DequantizeLinear over blocks of the input axis.

    A channel with one scale is written as one block of all its weights, because DequantizeLinear has only one axis of
    channels, and each expert has its own channels. Numbers are stored as `[experts, in, out]`: of the layouts tried for
    int8 (also `[experts, out, in]` with a Transpose, and two axes with a Reshape), only this keeps the weights as bytes
    in an engine of TensorRT-RTX 1.7.1.

    Args:
        rounded: Numbers and scales of every expert, by stack, from `round_experts`.
    """

    def __init__(self, rounded: Mapping[ir.Value, Sequence[Rounded]]) -> None:
        super().__init__()
        self._rounded = rounded

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        found = [stack for stack in stacks(model.graph) if stack.value in self._rounded]
        for stack in found:
            _quantize(model.graph, stack, self._rounded[stack.value])
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))


def _quantize(graph: ir.Graph, stack: Stack, rounded: Sequence[Rounded]) -> None:
    numbers = np.stack([np.ascontiguousarray(one.T) for one, _ in rounded])
    scales = np.stack([np.ascontiguousarray(one.reshape(len(one), -1).T) for _, one in rounded])
    values = [
        add_initializer(graph, f"{stack.value.name}.{suffix}", array)
        for suffix, array in (("quantized", numbers), ("scales", scales))
    ]
    piece = Piece(stack.node.metadata_props.get(MODULE_KEY, ""))
    out = piece.op("DequantizeLinear", *values, axis=1, block_size=numbers.shape[1] // scales.shape[1])
    out.shape, out.dtype = ir.Shape(numbers.shape), ir.DataType.FLOAT
    piece.insert_before(stack.node)
    stack.node.replace_input_with(1, out)
