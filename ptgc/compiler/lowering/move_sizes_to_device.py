"""MoveSizesToDevicePass: scalars derived from shapes are materialised on the device."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece

_OF_SIZES = frozenset({"Shape", "Size"})
_ARITHMETIC = frozenset(
    {
        "Add",
        "Concat",
        "Div",
        "Gather",
        "Identity",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Reshape",
        "Slice",
        "Squeeze",
        "Sub",
        "Unsqueeze",
    }
)
"""Operators that the host computes if all their inputs come from sizes and constants."""
_READ_BY_HOST = {
    "ConstantOfShape": {0},
    "CumSum": {1},
    "Expand": {1},
    "OneHot": {1},
    "Pad": {1, 2, 3},
    "Range": {0, 1, 2},
    "ReduceMax": {1},
    "ReduceMean": {1},
    "ReduceMin": {1},
    "ReduceProd": {1},
    "ReduceSum": {1},
    "Reshape": {1},
    "Slice": {1, 2, 3, 4},
    "Split": {1},
    "Squeeze": {1},
    "Tile": {1},
    "TopK": {1},
    "Trilu": {1},
    "Unsqueeze": {1},
}
"""Inputs that GPU kernels read from host memory."""


class MoveSizesToDevicePass(ir.passes.InPlacePass):
    """A scalar derived from sizes that a device kernel reads becomes the only element of a Range.

    The output of Shape is in host memory, and so is what is computed from it. If a device kernel reads it, ONNX Runtime
    copies it to the device in every run, from memory that is gone when a captured graph is replayed. Range passes its
    host inputs as kernel arguments, which a captured graph keeps, and sizes do not change within a shape point.

    Requires: known shapes of values derived from sizes (ShapeInferencePass): scalars, or one element.
    Ensures: no device kernel reads such a scalar from host memory.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        graph = model.graph
        sizes = _made_of_sizes(graph)
        moved: dict[ir.Value, ir.Value] = {}
        for node in list(graph):
            if node.outputs[0] in sizes:
                continue
            by_host = _READ_BY_HOST.get(node.op_type, set())
            for index, value in enumerate(node.inputs):
                if value is None or value not in sizes or index in by_host:
                    continue
                if value not in moved:
                    moved[value] = _move(value)
                node.replace_input_with(index, moved[value])
        return ir.passes.PassResult(model, bool(moved))


def _made_of_sizes(graph: ir.Graph) -> set[ir.Value]:
    """Values that the host computes from sizes."""
    found: set[ir.Value] = set()
    for node in graph:
        if node.op_type in _OF_SIZES or (node.op_type in _ARITHMETIC and _is_arithmetic(node, found)):
            found.update(node.outputs)
    return found


def _is_arithmetic(node: ir.Node, found: set[ir.Value]) -> bool:
    """Whether a node computes integers from sizes and constants; slicing a table to a size does not count."""
    if node.op_type in ("Gather", "Slice") and node.inputs[0] not in found:
        return False
    has_size = any(value in found for value in node.inputs)
    is_whole = node.outputs[0].dtype in (ir.DataType.INT64, ir.DataType.INT32)
    return has_size and is_whole and all(_is_host(value, found) for value in node.inputs)


def _is_host(value: ir.Value | None, found: set[ir.Value]) -> bool:
    if value is None or value in found or value.const_value is not None:
        return True
    producer = value.producer()
    return producer is not None and producer.op_type == "Constant"


def _move(value: ir.Value) -> ir.Value:
    """Materialise a scalar on the device, right behind the node that computes it."""
    producer = value.producer()
    assert producer is not None and producer.graph is not None
    assert value.shape is not None and value.shape.dims in ((), (1,)), f"{value.name} is {value.shape}"
    piece = Piece(producer.metadata_props.get(MODULE_KEY, ""))
    first = piece.constant([0])
    number = piece.op("Squeeze", value, first) if value.shape.dims else value
    made = piece.op("Range", number, piece.op("Add", number, piece.constant(1)), piece.constant(1))
    if not value.shape.dims:
        made = piece.op("Squeeze", made, first)
    made.name = f"{value.name}.on_device"
    for node in piece.nodes:  # so that a second run of the pass recognises them
        node.outputs[0].type, node.outputs[0].shape = value.type, ir.Shape([] if node.op_type != "Range" else [1])
    made.shape = value.shape
    producer.graph.insert_after(producer, piece.nodes)
    return made
