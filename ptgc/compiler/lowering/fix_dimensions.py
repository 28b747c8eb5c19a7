"""FixDimensionsPass: named dimensions become numbers."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir


class FixDimensionsPass(ir.passes.InPlacePass):
    """Named dimensions of inputs, outputs and values become numbers.

    Nothing else in a graph depends on the names. Sizes are read with Shape, so a compiler can fold what depends on
    them.

    Args:
        sizes: The number for each name; other names stay.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self._sizes = sizes

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        graph = model.graph
        modified = False
        for value in (*graph.inputs, *graph.outputs, *(output for node in graph for output in node.outputs)):
            if value.shape is None:
                continue
            sizes = [self._size(dimension) for dimension in value.shape]
            if sizes != list(value.shape):
                value.shape = ir.Shape(sizes)
                modified = True
        return ir.passes.PassResult(model, modified)

    def _size(self, dimension: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
        if isinstance(dimension, int) or dimension.value is None:
            return dimension
        return self._sizes.get(dimension.value, dimension)


def dimension_names(graph: ir.Graph) -> list[str]:
    """The named dimensions of a graph's inputs, in order of appearance."""
    found: dict[str, None] = {}
    for value in graph.inputs:
        for dimension in value.shape or ():
            if not isinstance(dimension, int) and dimension.value is not None:
                found[dimension.value] = None
    return list(found)
