"""Writing a graph and its weights, every distinct tensor once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

_ALIGNMENT = 4096  # of large tensors, so that they can be mapped
_INLINE = 1024  # bytes up to which a tensor stays in the graph file


def save(model: ir.Model, directory: Path, name: str) -> list[Path]:
    """Write `name.onnx` and, where there are weights, `name.data` beside it.

    Tensors with equal bytes share one place. Lazy tensors are evaluated one at a time.

    Returns:
        The files written.
    """
    data = directory / f"{name}.data"
    places: dict[bytes, tuple[int, int]] = {}
    with data.open("wb") as file:
        for value in model.graph.initializers.values():
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
                places[digest] = (offset, content.nbytes)
            offset, length = places[digest]
            value.const_value = ir.ExternalTensor(
                data.name, offset, length, tensor.dtype, shape=tensor.shape, name=value.name or "", base_dir=directory
            )
    graph_file = directory / f"{name}.onnx"
    graph_file.write_bytes(serialize(model))
    if not places:
        data.unlink()
        return [graph_file]
    return [graph_file, data]


def _bytes(tensor: ir.TensorProtocol) -> memoryview:
    """The tensor's bytes, without a copy where it lies in memory as it is stored."""
    if tensor.dtype.bitwidth < 8:
        return memoryview(tensor.tobytes())
    array = np.ascontiguousarray(tensor.numpy())
    return memoryview(array.view(np.uint8).reshape(-1))


def serialize(model: ir.Model) -> bytes:
    """The graph file's bytes, the same for the same graph."""
    proto: onnx.ModelProto = ir.to_proto(model)
    return proto.SerializeToString(deterministic=True)
