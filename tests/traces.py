"""PyTorch's traces, the slowest part of an export, made once in a run and shared by its workers.

Whoever exports a module equal to one traced before gets a copy of that graph. Equal means the same classes,
attributes, code of functions, weights and example inputs; a module that holds anything else is always traced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import onnx
import onnx_ir as ir
import pytest
import torch
from torch.onnx._internal.exporter._registration import ONNXRegistry

from tests.shared import made_once

_LARGEST = 1 << 26
"""Bytes of tensors, beyond which a trace is not kept."""
_SCALARS = (type(None), bool, int, float, str, bytes, Enum, EllipsisType, torch.dtype, torch.device)
_NAMED = (type, BuiltinFunctionType, ModuleType)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_HASH = "_original_object_hash"
"""Attribute of transformers' generation settings, another one in every process."""


class _UnknownContentError(Exception):
    """A value that cannot be compared."""


class _Content:
    """A digest of values. Objects and tensors count once, so that it tells what is shared from what is equal."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}  # with the objects, so that no other gets the id
        self._storages: dict[int, int] = {}
        self._num_bytes = 0

    def add(self, value: Any) -> None:
        if isinstance(value, _SCALARS):
            self._write(type(value).__qualname__, repr(value))
        elif isinstance(value, _NAMED):
            self._write(_name_of(value))
        elif isinstance(value, _CONTAINERS):
            self._write(_name_of(type(value)))
            self._add_all(_parts(value))
        elif id(value) in self._seen:
            self._write("again", str(self._seen[id(value)][0]))
        else:
            self._seen[id(value)] = len(self._seen), value
            self._write(_name_of(type(value)))
            if isinstance(value, torch.Tensor):
                self._add_tensor(value)
            else:
                self._add_all(_parts(value))

    def _write(self, *words: str) -> None:
        self.digest.update("".join(f"{len(word)}:{word}" for word in words).encode())

    def _add_all(self, parts: Iterable[Any]) -> None:
        parts = list(parts)
        self._write(str(len(parts)))
        for part in parts:
            self.add(part)

    def _add_tensor(self, value: torch.Tensor) -> None:
        self._num_bytes += value.nbytes
        if self._num_bytes > _LARGEST:
            raise _UnknownContentError("too large")
        storage = self._storages.setdefault(value.untyped_storage().data_ptr(), len(self._storages))
        self._add_all((value.dtype, list(value.shape), value.stride(), value.requires_grad, storage))
        self.digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _parts(value: Any) -> Iterable[Any]:
    """Everything that a value consists of."""
    if isinstance(value, dict):
        return (part for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, CodeType):
        return value.co_qualname, value.co_code, value.co_consts, value.co_names
    if isinstance(value, FunctionType):
        enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
        return value.__module__, value.__code__, value.__defaults__, value.__kwdefaults__, enclosed
    if hasattr(value, "__dict__") and type(value).__basicsize__ <= _Content.__basicsize__:
        return (part for name, part in vars(value).items() if name != _HASH for part in (name, part))
    raise _UnknownContentError(type(value))  # it keeps something outside of its attributes


def _name_of(value: Any) -> str:
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
    if "<locals>" in name:
        raise _UnknownContentError(name)  # classes of this name differ by what encloses them
    return name


def content_digest(value: Any) -> str | None:
    """A digest that equal values have in every process; None if the value holds what cannot be compared."""
    content = _Content()
    try:
        content.add(value)
    except (_UnknownContentError, RecursionError):
        return None
    return content.digest.hexdigest()


def _write(model: ir.Model, path: Path) -> None:
    """Keep a graph, and how many names it has given: nodes that are added later are numbered by it."""
    names = model.graph._name_authority
    path.write_bytes(b"%d %d\n" % (names._value_counter, names._node_counter) + ir.to_proto(model).SerializeToString())


def _read(path: Path) -> ir.Model:
    counters, _, graph = path.read_bytes().partition(b"\n")
    model = ir.from_proto(onnx.ModelProto.FromString(graph))
    names = model.graph._name_authority
    names._value_counter, names._node_counter = map(int, counters.split())
    return model


@contextmanager
def shared_traces(place: Path) -> Iterator[None]:
    """While open, `torch.onnx.export` traces equal modules once in this run; `place` is this worker's folder."""
    export: Callable[..., Any] = torch.onnx.export

    def share(*args: Any, **kwargs: Any) -> Any:
        digest, made = content_digest((args, kwargs)), []
        if digest is None:
            return export(*args, **kwargs)

        def trace(path: Path) -> None:
            made.append(export(*args, **kwargs))
            _write(made[0].model, path)

        path = made_once(place, f"trace-{digest}", trace)
        return made[0] if made else SimpleNamespace(model=_read(path), exported_program=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", share)
        # PyTorch compiles its translations anew for every export.
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield
