"""GPTQ checkpoints, as AutoGPTQ and GPTQModel write them.

A module has `qweight` `[in * bits / 32, out]`, `qzeros` `[groups, out * bits / 32]`, `scales` `[groups, out]` and
`g_idx` `[in]`, the group of each input. Sources: `qlinear` of both, and GPTQModel's conversion from version 1 to 2.
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

_LESS_ONE, _AS_IS = "gptq", "gptq_v2"
_ONES = {4: 0x11111111, 8: 0x01010101}  # a 1 in every field of a word


@dataclass(frozen=True)
class GptqFormat(PackedFormat):
    """GPTQ.

    Attributes:
        zeros_less_one: Whether zero points are stored minus one (`checkpoint_format` "gptq").
        ordered: Whether the inputs of a group may be non-contiguous (`desc_act`).
    """

    zeros_less_one: bool
    ordered: bool
    parts: ClassVar[frozenset[str]] = frozenset({"qweight", "qzeros", "scales", "g_idx"})

    def unpack(self, module: PackedModule) -> torch.Tensor:
        """See `PackedFormat.unpack`."""
        words, zero_words, scales = module.words("qweight"), module.words("qzeros"), module.floats("scales", 2)
        num_groups, num_outputs = scales.shape
        groups = self._groups(module, num_groups)
        bits = self.bits_of(module, "qweight", len(words), len(groups))
        per_word = 32 // bits
        if num_outputs % per_word:
            raise module.error(
                "scales", f"has {num_outputs} columns; integers of {bits} bits need a multiple of {per_word}"
            )
        module.check_shape("qweight", (len(groups) // per_word, num_outputs), f"'scales' of {num_outputs} outputs")
        module.check_shape("qzeros", (num_groups, num_outputs // per_word), f"'scales' {list(scales.shape)}")

        def read(inputs: slice) -> torch.Tensor:
            rows = words[inputs.start // per_word : inputs.stop // per_word]
            return unpack_words(rows.T, bits)

        return restore(read, scales.T, self._zero_points(zero_words, bits).T, groups)

    def _groups(self, module: PackedModule, num_groups: int) -> torch.Tensor:
        if "g_idx" in module.tensors or self.ordered:
            return module.group_indices("g_idx", len(module.tensor("g_idx", 1)), num_groups)
        bits, size = self.schemes[0].bits, self.schemes[0].group_size
        inputs = torch.arange(len(module.tensor("qweight", 2)) * 32 // bits)
        groups = inputs // size if size > 0 else torch.zeros_like(inputs)
        if num_groups != int(groups[-1]) + 1:
            raise module.error("scales", f"has {num_groups} rows for {len(inputs)} inputs in groups of {size}")
        return groups

    def _zero_points(self, words: torch.Tensor, bits: int) -> torch.Tensor:
        """Zero points `[groups, out]`.

        Version 1 subtracted one from every field with a single subtraction per word. Adding it back the same way
        restores the fields, even where a zero point of 0 borrowed from the next field of its word.
        """
        if self.zeros_less_one:
            wide = (words.long() + _ONES[bits]) & 0xFFFFFFFF
            words = wide.to(torch.uint32).view(torch.int32)
        return unpack_words(words, bits)


def read_gptq(source: str, settings: Mapping[str, Any]) -> GptqFormat:
    """Read the settings of a GPTQ checkpoint.

    Args:
        source: What the user gave, for messages.
        settings: `quantization_config`.

    Raises:
        CheckpointError: One of them is not supported.
    """
    problems: list[str] = []
    key = "checkpoint_format" if settings.get("checkpoint_format") else "format"
    layout = expect(problems, settings, key, (_LESS_ONE, _AS_IS), _LESS_ONE)
    expect(problems, settings, "is_marlin_format", (False,), False)
    expect(problems, settings, "pack_dtype", ("int32",), "int32")
    if settings.get("adapter"):
        problems.append("it has an adapter beside its weights")
    schemes = [_scheme(problems, {"bits": 4, **settings})]
    dynamic = settings.get("dynamic") or {}
    for pattern, changes in dynamic.items() if isinstance(dynamic, Mapping) else ():
        if not pattern.startswith("-") and isinstance(changes, Mapping):  # "-": modules that are not quantised
            schemes.append(_scheme(problems, {"bits": 4, **settings, **changes}))
    ordered = expect(problems, settings, "desc_act", (True, False), False)
    if problems:
        raise refuse(source, "GPTQ", problems)
    return GptqFormat("gptq", tuple(dict.fromkeys(schemes)), layout == _LESS_ONE, ordered)


def _scheme(problems: list[str], settings: Mapping[str, Any]) -> Scheme:
    bits = expect(problems, settings, "bits", (4, 8), None)
    size = expect_group_size(problems, settings, "group_size")
    return Scheme(bits, size, expect(problems, settings, "sym", (True, False), True))
