"""The engine libraries that builds are made for."""

from __future__ import annotations

from ptgc.compiler.backends.base import Backend
from ptgc.registry import Registry


def _onnxruntime() -> Backend:
    from ptgc.compiler.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend()


BACKENDS: Registry[Backend] = Registry("backend")
BACKENDS.register("onnxruntime", _onnxruntime)
