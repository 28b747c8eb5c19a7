"""Checkpoints of compressed-tensors (llm-compressor) in which only weights are quantised.

A module has `weight_packed` `[out, in * bits / 32]` and `weight_shape`, or `weight` in int8 or float8 `[out, in]`;
`weight_scale` `[out, groups]` or one number; `weight_zero_point` if it is not symmetric, and `weight_g_idx` if its
inputs were reordered. Source: `compressors/quantized_compressors` and `quantization/lifecycle/forward.py` there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

_STORED = {  # format -> type and bits of weights
    "pack-quantized": (("int", 4), ("int", 8)),
    "int-quantized": (("int", 8),),
    "float-quantized": (("float", 8),),
    "naive-quantized": (("int", 8), ("float", 8)),
}
_WEIGHTS_ALONE = "and only quantised weights can be read"


@dataclass(frozen=True)
class CompressedTensorsFormat(PackedFormat):
    """compressed-tensors, weights only."""

    parts: ClassVar[frozenset[str]] = frozenset(
        {"weight_packed", "weight_shape", "weight_scale", "weight_zero_point", "weight_g_idx"}
    )

    def unpack(self, module: PackedModule) -> torch.Tensor:
        """See `PackedFormat.unpack`."""
        if "weight_packed" not in module.tensors and "weight_shape" not in module.tensors:
            stored = module.tensor("weight", 2)
            if stored.dtype not in (torch.int8, torch.float8_e4m3fn):
                raise module.error("weight", f"is {stored.dtype}; quantised weights are int8 or float8_e4m3fn")
            return self._restore(module, stored, 8)
        words = module.words("weight_packed")
        num_outputs, num_inputs = self._shape(module)
        bits = self.bits_of(module, "weight_packed", words.shape[1], num_inputs)
        module.check_shape("weight_packed", (num_outputs, words.shape[1]), f"'weight_shape' of {num_outputs} outputs")
        return self._restore(module, words, bits, num_inputs)

    def _restore(
        self, module: PackedModule, stored: torch.Tensor, bits: int, num_packed: int | None = None
    ) -> torch.Tensor:
        """Multiply by scales; `num_packed` is the number of inputs if `stored` holds words."""
        num_inputs = num_packed or stored.shape[1]
        scales = self._scales(module, len(stored), num_inputs)
        groups = torch.arange(num_inputs) // (num_inputs // scales.shape[1])
        given = module.tensors.get("weight_g_idx")
        if given is not None and not bool((given == -1).any()):  # -1 means "not reordered"
            groups = module.group_indices("weight_g_idx", num_inputs, scales.shape[1])
        per_word = 32 // bits
        middle = 1 << (bits - 1)

        def read(inputs: slice) -> torch.Tensor:
            if num_packed is None:
                return stored[:, inputs]
            words = stored[:, inputs.start // per_word : -(-inputs.stop // per_word)]
            return unpack_words(words, bits)[:, : inputs.stop - inputs.start].short() - middle

        return restore(read, scales, self._zero_points(module, scales, bits), groups)

    def _shape(self, module: PackedModule) -> tuple[int, int]:
        shape = module.tensor("weight_shape", 1).tolist()
        if len(shape) != 2 or any(not isinstance(size, int) or size < 1 for size in shape):
            raise module.error("weight_shape", f"is {shape}; it must be the outputs and inputs of a matrix")
        return shape[0], shape[1]

    def _scales(self, module: PackedModule, num_outputs: int, num_inputs: int) -> torch.Tensor:
        """Scales `[out, groups]`: one for each group, for each output, or for all."""
        scales = module.floats("weight_scale")
        if scales.numel() == 1:
            return scales.reshape(1, 1).expand(num_outputs, 1)
        scales = scales[:, None] if scales.ndim == 1 else scales
        wanted = {scheme.group_size if scheme.group_size > 0 else num_inputs for scheme in self.schemes}
        sizes = {min(size, num_inputs) for size in wanted}  # a matrix narrower than a group is one group
        shapes = [(num_outputs, num_inputs // size) for size in sizes if num_inputs % size == 0]
        if tuple(scales.shape) not in shapes:
            listed = " or ".join(str(scheme.group_size) for scheme in self.schemes)
            what = f"does not fit {num_outputs} outputs and {num_inputs} inputs in groups of {listed}"
            raise module.error("weight_scale", f"is {list(scales.shape)}, which {what}")
        return scales

    def _zero_points(self, module: PackedModule, scales: torch.Tensor, bits: int) -> torch.Tensor:
        """Zero points of signed integers, `[out, groups]`; packed along the outputs if the weights are packed."""
        given = module.tensors.get("weight_zero_point")
        if given is None:
            if not any(scheme.symmetric for scheme in self.schemes):
                raise module.error("weight_zero_point", "is missing, but the weights are not symmetric")
            return torch.zeros(scales.shape)
        if given.dtype == torch.int32 and "weight_packed" in module.tensors:
            per_word = 32 // bits
            expected = (-(-len(scales) // per_word), scales.shape[1])
            module.check_shape("weight_zero_point", expected, f"'weight_scale' {list(scales.shape)}")
            return unpack_words(given.T, bits).T[: len(scales)].short() - (1 << (bits - 1))
        if given.numel() == 1:
            return given.reshape(1, 1).expand(scales.shape)
        module.check_shape("weight_zero_point", tuple(scales.shape), f"'weight_scale' {list(scales.shape)}")
        return given


def read_compressed_tensors(source: str, settings: Mapping[str, Any]) -> CompressedTensorsFormat:
    """Read the settings of a compressed-tensors checkpoint.

    Args:
        source: What the user gave, for messages.
        settings: `quantization_config`.

    Raises:
        CheckpointError: One of them is not supported.
    """
    others = [name for name in ("kv_cache_scheme", "transform_config") if settings.get(name)]
    problems = [f"it has a {name}, {_WEIGHTS_ALONE}" for name in others]
    sparsity = settings.get("sparsity_config") or {}
    if isinstance(sparsity, Mapping):
        expect(problems, sparsity, "format", ("dense",), "dense")
    groups = settings.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise refuse(source, "compressed-tensors", [*problems, "its configuration has no config_groups"])
    schemes = [scheme for name, group in groups.items() for scheme in _scheme(problems, settings, name, group)]
    if problems:
        raise refuse(source, "compressed-tensors", problems)
    return CompressedTensorsFormat("compressed-tensors", tuple(dict.fromkeys(schemes)))


def _scheme(problems: list[str], settings: Mapping[str, Any], name: str, group: object) -> Iterator[Scheme]:
    """The scheme of one group of modules; problems are recorded with the group's name."""
    if not isinstance(group, Mapping) or not isinstance(group.get("weights"), Mapping):
        problems.append(f"{name} does not say how weights are quantised")
        return
    activations = [name for name in ("input_activations", "output_activations") if group.get(name)]
    found = [f"activations are quantised ({name}), {_WEIGHTS_ALONE}" for name in activations]
    weights: Mapping[str, Any] = group["weights"]
    stored = group if group.get("format") else settings
    layout = expect(found, stored, "format", tuple(_STORED), None)
    kinds = _STORED.get(layout) or (("int", 4), ("int", 8), ("float", 8))
    kind = expect(found, weights, "type", tuple(dict.fromkeys(kind for kind, _ in kinds)), "int")
    bits = expect(found, weights, "num_bits", tuple(bits for one, bits in kinds if one == kind) or (4, 8), 8)
    expect(found, weights, "strategy", ("group", "channel", "tensor"), "channel")
    expect(found, weights, "dynamic", (False,), False)
    grouped = weights.get("group_size") is not None
    size = expect_group_size(found, weights, "group_size") if grouped else -1
    symmetric = expect(found, weights, "symmetric", (True, False), True)
    problems += [f"in {name}, {problem}" for problem in found]
    yield Scheme(bits, size, symmetric)
