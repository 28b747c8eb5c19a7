"""The engine libraries that builds are made for."""

from __future__ import annotations

from ptgc.compiler.backends.base import Backend
from ptgc.registry import Registry


def _onnxruntime() -> Backend:
    from ptgc.compiler.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend()


def _tensorrt() -> Backend:
    from ptgc.compiler.backends.tensorrt import TENSORRT, TensorRTBackend

    return TensorRTBackend(TENSORRT)


def _tensorrt_rtx() -> Backend:
    from ptgc.compiler.backends.tensorrt import TENSORRT_RTX, TensorRTBackend

    return TensorRTBackend(TENSORRT_RTX)


BACKENDS: Registry[Backend] = Registry("backend")
BACKENDS.register("onnxruntime", _onnxruntime)
BACKENDS.register("tensorrt", _tensorrt)
BACKENDS.register("tensorrt-rtx", _tensorrt_rtx)
