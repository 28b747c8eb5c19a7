"""Writing and reading a graph and its weights; every distinct tensor is stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

from ptgc.errors import BundleError

_ALIGNMENT = 4096  # alignment of large tensors, so that they can be mapped
_INLINE = 1024  # bytes up to which a tensor stays in the graph file


@dataclass(frozen=True)
class Place:
    """Where the bytes of a tensor are stored."""

    file: str
    """A file in the directory that graphs are saved to."""
    offset: int
    """Offset in bytes."""


@dataclass
class SavedWeights:
    """The tensors that the graphs of one directory have written so far, by digest of their bytes."""

    places: dict[bytes, Place] = field(default_factory=dict)
    """The place of each; graphs refer to the file of the graph that wrote the tensor first."""


def save(model: ir.Model, directory: Path, name: str, saved: SavedWeights | None = None) -> list[Path]:
    """Write `name.onnx` and, if there are new weights, `name.data` beside it.

    Tensors with equal bytes are stored once. Lazy tensors are evaluated one at a time. The model is not changed.

    Args:
        model: The graph.
        directory: Where the files go.
        name: File name without suffix.
        saved: Tensors written by the other graphs of that directory, which are not stored again.

    Returns:
        The files written.
    """
    saved = saved or SavedWeights()
    data = directory / f"{name}.data"
    originals = {value: value.const_value for value in model.graph.initializers.values()}
    with data.open("wb") as file:
        placed = _write_weights(model.graph, file, data.name, saved.places)
        written = file.tell() > 0
    graph_file = directory / f"{name}.onnx"
    try:
        for value, tensor in placed.items():
            value.const_value = tensor
        graph_file.write_bytes(serialize(model))
    finally:
        for value, original in originals.items():
            value.const_value = original
    if not written:
        data.unlink()
        return [graph_file]
    return [graph_file, data]


def load(path: Path) -> ir.Model:
    """Read a graph; its weights stay in their files until they are asked for.

    Raises:
        BundleError: Weights are outside the graph's folder, or in a file with hard links, which onnx-ir refuses.
    """
    try:
        model = ir.load(path)
    except Exception as error:  # errors of protobuf and onnx-ir share no base class
        raise BundleError(f"{path} is no ONNX graph: {error}", "Do not use this bundle.") from error
    tensors = [value.const_value for value in model.graph.initializers.values()]
    _check_inside(path, [tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor)])
    files = {path.parent / tensor.location for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}
    for file in sorted(files):
        if file.is_file() and file.stat().st_nlink > 1:
            raise BundleError(
                f"{file} has {file.stat().st_nlink} names (hard links): whoever holds another could change it.",
                f"Make it a file of its own: cp {file.name} copy && mv copy {file.name}",
            )
    return model


def _check_inside(path: Path, tensors: Iterable[ir.ExternalTensor]) -> None:
    """Refuse a graph whose weights are outside its folder, by their name or through a link."""
    for location in sorted({str(tensor.location) for tensor in tensors}):
        if not (path.parent / location).resolve().is_relative_to(path.parent.resolve()):
            raise BundleError(f"{path} has weights outside its folder: '{location}'.", "Do not use this bundle.")


def _write_weights(
    graph: ir.Graph, file: BinaryIO, name: str, places: dict[bytes, Place]
) -> dict[ir.Value, ir.ExternalTensor]:
    """Write every large tensor that has no place yet; return the stored tensor of each value."""
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
            places[digest] = Place(name, offset)
        placed[value] = ir.ExternalTensor(
            places[digest].file,
            places[digest].offset,
            content.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name or "",
        )
    return placed


def _bytes(tensor: ir.TensorProtocol) -> memoryview:
    """The tensor's bytes, without a copy if memory and file layout agree."""
    if tensor.dtype.bitwidth < 8:
        return memoryview(tensor.tobytes())
    array = np.ascontiguousarray(tensor.numpy())
    return array.view(np.uint8).reshape(-1).data


def serialize(model: ir.Model) -> bytes:
    """The graph file's bytes, the same for the same graph."""
    proto: onnx.ModelProto = ir.to_proto(model)
    return bytes(proto.SerializeToString(deterministic=True))
