"""A checkpoint to a GGUF file, quantised by llama.cpp."""

from __future__ import annotations

import ctypes
from importlib import import_module
from pathlib import Path
from typing import Any

from ptgc.bench.converters.llama_gguf import write_gguf
from ptgc.errors import BackendError
from ptgc.spec.staging import scratch_directory

FILE_TYPES = {
    "float32": "LLAMA_FTYPE_ALL_F32",
    "float16": "LLAMA_FTYPE_MOSTLY_F16",
    "bfloat16": "LLAMA_FTYPE_MOSTLY_BF16",
    "int8": "LLAMA_FTYPE_MOSTLY_Q8_0",
    "int4": "LLAMA_FTYPE_MOSTLY_Q4_0",
}
"""The precisions that llama.cpp writes: its names by ours."""


def convert(model: Path, precision: str, output: Path) -> None:
    """Write model.gguf into the output folder.

    Raises:
        BackendError: llama.cpp cannot quantise it.
        CheckpointError: The model is no Llama.
    """
    with scratch_directory() as scratch:
        write_gguf(model, scratch / "float32.gguf")
        _quantize(scratch / "float32.gguf", FILE_TYPES[precision], output / "model.gguf")


def _quantize(source: Path, file_type: str, file: Path) -> None:
    """Write a file with weights of another type; all else as llama.cpp's own tool does by default."""
    library: Any = import_module("llama_cpp")
    library.llama_backend_init()
    parameters = library.llama_model_quantize_default_params()
    parameters.ftype = getattr(library, file_type)
    failed = library.llama_model_quantize(str(source).encode(), str(file).encode(), ctypes.byref(parameters))
    if failed:
        raise BackendError(f"llama.cpp did not write {file_type}.")
