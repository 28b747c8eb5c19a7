"""AWQ checkpoints in the layout that AutoAWQ calls "gemm".

A module has `qweight` `[in, out / 8]`, `qzeros` `[groups, out / 8]` and `scales` `[groups, out]`. A word holds eight
neighbouring outputs: first the four at even positions, then those at odd ones. Source: AutoAWQ's `WQLinear_GEMM`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ptgc.exporters.checkpoint.packed.base import (
    PackedFormat,
    PackedModule,
    Scheme,
    expect,
    expect_group_size,
    refuse,
    restore,
    unpack_words,
)

_BITS, _PER_WORD = 4, 8
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # position in its word of each of eight neighbouring outputs
_MIDDLE = 8


@dataclass(frozen=True)
class AwqFormat(PackedFormat):
    """AWQ in 4 bits."""

    parts: ClassVar[frozenset[str]] = frozenset({"qweight", "qzeros", "scales"})

    def unpack(self, module: PackedModule) -> torch.Tensor:
        """See `PackedFormat.unpack`."""
        words, scales = module.words("qweight"), module.floats("scales", 2)
        num_inputs, num_outputs = len(words), words.shape[1] * _PER_WORD
        (scheme,) = self.schemes
        size = scheme.group_size if scheme.group_size > 0 else num_inputs
        if num_inputs % size:
            raise module.error("qweight", f"has {num_inputs} rows, which groups of {size} do not divide")
        module.check_shape("scales", (num_inputs // size, num_outputs), f"'qweight' {list(words.shape)}")
        if scheme.symmetric and "qzeros" not in module.tensors:
            zero_points = torch.full(scales.shape, _MIDDLE)
        else:
            zero_words = module.words("qzeros")
            module.check_shape("qzeros", (len(scales), words.shape[1]), f"'scales' {list(scales.shape)}")
            zero_points = _in_order(zero_words)
        groups = torch.arange(num_inputs) // size
        return restore(lambda inputs: _in_order(words[inputs]).T, scales.T, zero_points.T, groups)


def read_awq(source: str, settings: Mapping[str, Any]) -> AwqFormat:
    """Read the settings of an AWQ checkpoint.

    Args:
        source: What the user gave, for messages.
        settings: `quantization_config`.

    Raises:
        CheckpointError: One of them is not supported.
    """
    problems: list[str] = []
    lower = {name: value.lower() if isinstance(value, str) else value for name, value in settings.items()}
    expect(problems, lower, "version" if lower.get("version") else "format", ("gemm",), "gemm")
    if lower.get("backend") == "llm-awq":
        problems.append("it has the layout of llm-awq, and only that of version 'gemm' can be read")
    expect(problems, lower, "w_bit" if "w_bit" in lower else "bits", (_BITS,), _BITS)
    size = expect_group_size(problems, lower, "q_group_size" if "q_group_size" in lower else "group_size")
    asymmetric = expect(problems, lower, "zero_point", (True, False), True)
    if problems:
        raise refuse(source, "AWQ", problems)
    return AwqFormat("awq", (Scheme(_BITS, size, not asymmetric),))


def _in_order(words: torch.Tensor) -> torch.Tensor:
    """Integers `[rows, out]` from words of eight outputs each."""
    fields = unpack_words(words, _BITS).reshape(len(words), -1, _PER_WORD)
    return fields[..., list(_PLACES)].flatten(-2)
