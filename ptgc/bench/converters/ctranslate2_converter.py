"""A checkpoint to CTranslate2's format, with its own converter."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

PRECISIONS = ("float32", "int8")
"""The precisions that it runs at on a CPU."""


def convert(model: Path, precision: str, output: Path) -> None:
    """Write a model into the output folder."""
    library: Any = import_module("ctranslate2.converters")
    library.TransformersConverter(str(model)).convert(str(output), quantization=precision, force=True)
