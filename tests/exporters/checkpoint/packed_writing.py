"""Writing checkpoints as GPTQ, AWQ and compressed-tensors do, without a line of ptgc."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers.pytorch_utils import Conv1D

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True)
class Rounded:
    """A matrix `[out, in]` as unsigned integers, with scales and zero points `[out, groups]`."""

    integers: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor
    groups: torch.Tensor
    bits: int
    symmetric: bool

    @property
    def matrix(self) -> torch.Tensor:
        """The weights that it stands for."""
        return (self.integers - self.zeros[:, self.groups]).float() * self.scales[:, self.groups]


def round_matrix(
    matrix: torch.Tensor, bits: int = 4, group_size: int = 32, *, symmetric: bool = True, ordered: bool = False
) -> Rounded:
    """Round to the nearest of each group's integers; scales are half-precision numbers."""
    inputs = matrix.shape[1]
    size = group_size if group_size > 0 else inputs
    groups = torch.arange(inputs) // size
    if ordered:
        groups = groups[torch.randperm(inputs, generator=torch.Generator().manual_seed(3))]
    top = (1 << bits) - 1
    scales, zeros = [], []
    for group in range(int(groups.max()) + 1):
        part = matrix[:, groups == group]
        highest, lowest = part.amax(1).clamp(min=1e-3), part.amin(1).clamp(max=0)
        spread = 2 * torch.maximum(highest, -lowest) if symmetric else highest - lowest
        scale = (spread / top).half().float()
        scales.append(scale)
        zeros.append(torch.full_like(scale, (top + 1) // 2) if symmetric else (-lowest / scale).round())
    stacked, offsets = torch.stack(scales, 1), torch.stack(zeros, 1).clamp(0, top)
    integers = ((matrix / stacked[:, groups]).round() + offsets[:, groups]).clamp(0, top)
    return Rounded(integers.long(), stacked, offsets.long(), groups, bits, symmetric)


def pack_last(values: torch.Tensor, bits: int, order: tuple[int, ...] | None = None) -> torch.Tensor:
    """Put the integers of a row into 32-bit words, the lowest bits first, in the order given."""
    per_word = 32 // bits
    filled = torch.nn.functional.pad(values, (0, -values.shape[1] % per_word))
    words = torch.zeros(len(values), filled.shape[1] // per_word, dtype=torch.long)
    for place, of in enumerate(order or range(per_word)):
        words += filled[:, of::per_word] << (bits * place)
    return as_int32(words)


def as_int32(words: torch.Tensor) -> torch.Tensor:
    words = words % (1 << 32)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32).contiguous()


def gptq(rounded: Rounded, *, less_one: bool = True) -> dict[str, torch.Tensor]:
    zeros = pack_last(rounded.zeros.T, rounded.bits).long()
    ones = sum(1 << place for place in range(0, 32, rounded.bits))
    return {
        "qweight": pack_last(rounded.integers, rounded.bits).T.contiguous(),
        "qzeros": as_int32(zeros - ones if less_one else zeros),
        "scales": rounded.scales.T.half().contiguous(),
        "g_idx": rounded.groups.to(torch.int32),
    }


def awq(rounded: Rounded) -> dict[str, torch.Tensor]:
    return {
        "qweight": pack_last(rounded.integers.T, 4, AWQ_ORDER),
        "qzeros": pack_last(rounded.zeros.T, 4, AWQ_ORDER),
        "scales": rounded.scales.T.half().contiguous(),
    }


def compressed(rounded: Rounded, *, ordered: bool = False) -> dict[str, torch.Tensor]:
    found = {
        "weight_packed": pack_last(rounded.integers, rounded.bits),
        "weight_shape": torch.tensor(rounded.integers.shape),
        "weight_scale": rounded.scales.half(),
    }
    if not rounded.symmetric:
        found["weight_zero_point"] = pack_last(rounded.zeros.T, rounded.bits).T.contiguous()
    return found | ({"weight_g_idx": rounded.groups.to(torch.int32)} if ordered else {})


def naive(rounded: Rounded) -> dict[str, torch.Tensor]:
    found = {"weight": (rounded.integers - 128).to(torch.int8), "weight_scale": rounded.scales.half()}
    return found if rounded.symmetric else found | {"weight_zero_point": (rounded.zeros - 128).to(torch.int8)}


def groups_of(weights: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """`config_groups` of compressed-tensors with one group of modules."""
    return {"group_0": {"targets": ["Linear"], "weights": dict(weights), "input_activations": None, **more}}


@dataclass(frozen=True)
class Layout:
    """One way of packing a model."""

    settings: Mapping[str, Any]
    pack: Callable[[Rounded], Mapping[str, torch.Tensor]]
    bits: int = 4
    group_size: int = 32
    symmetric: bool = True
    ordered: bool = False


def _gptq(**changes: Any) -> Layout:
    made = replace(Layout({}, gptq), **changes)
    settings = {
        "quant_method": "gptq",
        "bits": made.bits,
        "group_size": made.group_size,
        "sym": made.symmetric,
        "desc_act": made.ordered,
        "checkpoint_format": "gptq",
    }
    return replace(made, settings={**settings, **made.settings})


def _awq(**changes: Any) -> Layout:
    made = replace(Layout({}, awq), **changes)
    settings = {"quant_method": "awq", "bits": 4, "group_size": made.group_size, "version": "gemm"}
    return replace(made, settings={**settings, "zero_point": not made.symmetric, **made.settings})


def _compressed(layout: str = "pack-quantized", **changes: Any) -> Layout:
    made = replace(Layout({}, compressed), **changes)
    grouped = made.group_size > 0
    weights = {
        "num_bits": made.bits,
        "type": "int",
        "symmetric": made.symmetric,
        "strategy": "group" if grouped else "channel",
        "group_size": made.group_size if grouped else None,
    }
    settings = {"quant_method": "compressed-tensors", "format": layout, "config_groups": groups_of(weights)}
    return replace(made, settings=settings)


LAYOUTS = {
    "gptq-4": _gptq(),
    "gptq-4-asymmetric": _gptq(symmetric=False),
    "gptq-4-ordered": _gptq(symmetric=False, ordered=True),
    "gptq-4-all": _gptq(group_size=-1),
    "gptq-8": _gptq(bits=8, group_size=16),
    "gptq-8-asymmetric": _gptq(bits=8, symmetric=False),
    "gptq-4-partial": _gptq(group_size=40),
    "gptq-v2": _gptq(
        symmetric=False,
        settings={"checkpoint_format": "gptq_v2"},
        pack=lambda rounded: gptq(rounded, less_one=False),
    ),
    "gptq-unindexed": _gptq(pack=lambda rounded: {k: v for k, v in gptq(rounded).items() if k != "g_idx"}),
    "awq": _awq(symmetric=False),
    "awq-all": _awq(symmetric=False, group_size=-1),
    "awq-symmetric": _awq(),
    "awq-no-zeros": _awq(pack=lambda rounded: {k: v for k, v in awq(rounded).items() if k != "qzeros"}),
    "compressed-4": _compressed(),
    "compressed-4-asymmetric": _compressed(symmetric=False),
    "compressed-4-channel": _compressed(symmetric=False, group_size=-1),
    "compressed-4-ordered": _compressed(
        symmetric=False, ordered=True, pack=lambda rounded: compressed(rounded, ordered=True)
    ),
    "compressed-8": _compressed(bits=8),
    "compressed-int8": _compressed("int-quantized", bits=8, group_size=-1, pack=naive),
    "compressed-int8-asymmetric": _compressed("naive-quantized", bits=8, group_size=-1, symmetric=False, pack=naive),
}
"""All supported layouts except float8."""


def write_packed(
    directory: Path, model: Any, layout: Layout, *, skip: Callable[[str], bool] = lambda _: False, **settings: Any
) -> Any:
    """Write a model as a quantised checkpoint.

    Args:
        directory: Folder for the files.
        model: The model; its linear layers except the head are packed, all others are half-precision.
        layout: How to pack them.
        skip: Layers that are not quantised.
        settings: More of config.json.

    Returns:
        The same model with the weights that the checkpoint stands for.
    """
    expected = copy.deepcopy(model)
    for parameter in expected.parameters():
        parameter.data = parameter.data.half().float()
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    for name, module in expected.named_modules():
        if not isinstance(module, torch.nn.Linear | Conv1D) or name == "lm_head" or skip(name):
            continue
        turned = isinstance(module, Conv1D)
        weight = model.get_submodule(name).weight.detach()
        rounded = round_matrix(
            weight.T if turned else weight,
            layout.bits,
            layout.group_size,
            symmetric=layout.symmetric,
            ordered=layout.ordered,
        )
        module.weight.data = rounded.matrix.T.contiguous() if turned else rounded.matrix
        del state[f"{name}.weight"]
        state |= {f"{name}.{part}": tensor for part, tensor in layout.pack(rounded).items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    model.save_pretrained(directory)
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    configuration = json.loads((directory / "config.json").read_text())
    changed = {**configuration, "dtype": "float16", "quantization_config": dict(layout.settings), **settings}
    (directory / "config.json").write_text(json.dumps(changed))
    return expected
