"""Finds the vendor libraries that the core opens at run time."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path

from ptgc.errors import BackendError
from ptgc.spec.onnxruntime_version import MIN_ONNXRUNTIME

_CUDA = ("cudart", "nvJitLink", "cublasLt", "cublas", "curand", "cufft", "nvrtc", "cudnn")
"""The libraries that the CUDA provider needs, each after its own dependencies."""


def compiled_package() -> Path:
    """The package's folder with what was compiled: in an editable install, another than that of its sources."""
    module = importlib.util.find_spec("ptgc.runtime._core")
    return Path(module.origin).parents[1] if module is not None and module.origin else Path()


def onnxruntime_library() -> str:
    """Path of ONNX Runtime's shared library: `$PTGC_ONNXRUNTIME`, or the installed wheel's.

    The wheel is found without importing it, which saves its start-up time.

    Raises:
        BackendError: It is not installed; the error says how to install it.
    """
    given = os.environ.get("PTGC_ONNXRUNTIME")
    if given:
        if not Path(given).is_file():
            raise BackendError(
                f"PTGC_ONNXRUNTIME names {given}, which does not exist.",
                "Name ONNX Runtime's shared library.",
            )
        return given
    spec = importlib.util.find_spec("onnxruntime")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        for pattern in ("libonnxruntime.so*", "libonnxruntime*.dylib", "onnxruntime.dll"):
            found = sorted((Path(folder) / "capi").glob(pattern))
            if found:
                return str(found[-1])
    raise BackendError(
        "Backend 'onnxruntime' is not installed: neither the package onnxruntime nor $PTGC_ONNXRUNTIME is there.",
        f'Install it: pip install "onnxruntime>={MIN_ONNXRUNTIME}", or onnxruntime-gpu for CUDA.',
    )


def device_is_here(device: str) -> bool:
    """Whether builds for this kind of device can be loaded here."""
    from ptgc.runtime._core import cuda_device_name

    return device != "cuda" or bool(cuda_device_name())


def open_cuda_libraries() -> list[str]:
    """Open CUDA's libraries from packages of the Python package index, where no linker searches.

    Later requests for them by name then find these. The system must find those that are not in such a package.

    Returns:
        The files that were opened.
    """
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []
    opened = []
    for name in _CUDA:
        for file in sorted(file for folder in folders for file in folder.glob(f"*/lib/lib{name}.so.*")):
            try:
                ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue  # for another version of CUDA, or damaged: the core reports what is missing
            opened.append(str(file))
    return opened
