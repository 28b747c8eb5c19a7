"""Checkpoints whose weights are packed integers: the formats that can be read, by the method that wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ptgc.exporters.checkpoint.packed.awq import read_awq
from ptgc.exporters.checkpoint.packed.base import PackedFormat, PackedModule, refuse
from ptgc.exporters.checkpoint.packed.compressed_tensors import read_compressed_tensors
from ptgc.exporters.checkpoint.packed.gptq import read_gptq

__all__ = ["FORMATS", "PackedFormat", "PackedModule", "packed_format"]

FORMATS: dict[str, Callable[[str, Mapping[str, Any]], PackedFormat]] = {
    "gptq": read_gptq,
    "awq": read_awq,
    "compressed-tensors": read_compressed_tensors,
}
"""The reader of each method's settings: source, `quantization_config` -> format."""


def packed_format(source: str, settings: object) -> PackedFormat:
    """Find out how the weights of a quantised checkpoint are packed.

    Args:
        source: What the user gave, for messages.
        settings: `quantization_config` of config.json, or its equivalent.

    Raises:
        CheckpointError: The method, or one of its settings, is not supported.
    """
    if not isinstance(settings, Mapping):
        raise refuse(source, "a method that config.json does not describe", [f"it says {str(settings)[:60]!r}"])
    method = str(settings.get("quant_method") or settings.get("method"))
    if method not in FORMATS:
        raise refuse(source, f"'{method}'", [f"of methods, {', '.join(FORMATS)} can be read"])
    return FORMATS[method](source, settings)
