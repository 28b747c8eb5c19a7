"""Conversions between ports and the values of a graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ptgc.spec.ports import DType, Port


def onnx_type(dtype: DType) -> ir.DataType:
    """The ONNX element type of a port."""
    return ir.DataType.FLOAT if dtype is DType.FLOAT32 else ir.DataType[dtype.name]


def input_value(port: Port) -> ir.Value:
    """A graph input for a port."""
    return ir.val(port.name, onnx_type(port.dtype), ir.Shape(port.shape))


def describe(value: ir.Value, port: Port) -> None:
    """Give a value the name, dtype and shape of a port."""
    value.name = port.name
    value.dtype = onnx_type(port.dtype)
    value.shape = ir.Shape(port.shape)


def take_place(new: ir.Value, old: ir.Value) -> None:
    """Replace `old` by `new` everywhere, with its shape, dtype and, for a graph output, its name."""
    copy_type(new, old)
    was_output, name = old.is_graph_output(), old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if was_output:
        old.name = f"{name}.replaced"
        new.name = name


def copy_type(new: ir.Value, old: ir.Value) -> None:
    """Give a value the shape and dtype of another value."""
    new.shape = old.shape
    new.type = old.type


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """The constant with that name; added to the graph if it is missing."""
    if name in graph.initializers:
        return graph.initializers[name]
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value
