"""Which versions of ONNX Runtime run a build."""

from __future__ import annotations

import re

MIN_ONNXRUNTIME = "1.25"
"""The first version that runs every graph of opset 24: 1.23 refuses the opset, 1.24 TensorScatter. Also in
pyproject.toml."""


def is_older(version: str, minimum: str) -> bool:
    """Whether a version comes before another; what follows the numbers is ignored."""
    return _numbers(version) < _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
