"""Writing a graph and its weights, every distinct tensor once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

_ALIGNMENT = 4096  # of large tensors, so that they can be mapped
_INLINE = 1024  # bytes up to which a tensor stays in the graph file


def save(model: ir.Model, directory: Path, name: str) -> list[Path]:
    """Write `name.onnx` and, where there are weights, `name.data` beside it.

    Tensors with equal bytes share one place. Lazy tensors are evaluated one at a time. The model stays as it is.

    Returns:
        The files written.
    """
    data = directory / f"{name}.data"
    originals = {value: value.const_value for value in model.graph.initializers.values()}
    with data.open("wb") as file:
        placed = _write_weights(model.graph, file, data)
    graph_file = directory / f"{name}.onnx"
    try:
        for value, tensor in placed.items():
            value.const_value = tensor
        graph_file.write_bytes(serialize(model))
    finally:
        for value, original in originals.items():
            value.const_value = original
    if not placed:
        data.unlink()
        return [graph_file]
    return [graph_file, data]


def _write_weights(graph: ir.Graph, file: BinaryIO, path: Path) -> dict[ir.Value, ir.ExternalTensor]:
    """Write every tensor that is not small; gives where each value's bytes are."""
    places: dict[bytes, int] = {}
    placed = {}
    for value in graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes <= _INLINE:
            continue
        content = _bytes(tensor)
        digest = hashlib.sha256(content).digest()
        if digest not in places:
            offset = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
            file.write(b"\0" * (offset - file.tell()))
            file.write(content)
            places[digest] = offset
        placed[value] = ir.ExternalTensor(
            path.name,
            places[digest],
            content.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name or "",
        )
    return placed


def _bytes(tensor: ir.TensorProtocol) -> memoryview:
    """The tensor's bytes, without a copy where it lies in memory as it is stored."""
    if tensor.dtype.bitwidth < 8:
        return memoryview(tensor.tobytes())
    array = np.ascontiguousarray(tensor.numpy())
    return array.view(np.uint8).reshape(-1).data


def serialize(model: ir.Model) -> bytes:
    """The graph file's bytes, the same for the same graph."""
    proto: onnx.ModelProto = ir.to_proto(model)
    return bytes(proto.SerializeToString(deterministic=True))
