"""Checkpoints that are already quantised: packed integers in safetensors files become ordinary weights.

The files are read here, tensor by tensor: transformers would require the packages that wrote them, and a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import GenerationConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.huggingface_directory import model_from_state_dict
from ptgc.exporters.checkpoint.packed import PackedFormat, PackedModule

# Files in which older versions of the packages stored settings outside config.json, with the package's method.
SETTINGS_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}
_WEIGHT, _BIAS = "weight", "bias"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def quantization_settings(directory: Path, settings: Mapping[str, Any]) -> object:
    """Return a checkpoint's own description of its quantisation; None if it is not quantised.

    Args:
        directory: Directory of the checkpoint.
        settings: Its config.json.

    Raises:
        CheckpointError: A settings file is not JSON.
    """
    inside = settings.get("quantization_config") or settings.get("compression_config")
    if inside:
        return inside
    for name, method in SETTINGS_FILES.items():
        file = directory / name
        if file.is_file():
            try:
                found: object = json.loads(file.read_text(encoding="utf-8"))
            except (ValueError, RecursionError) as error:
                raise CheckpointError(
                    f"Cannot read '{file}': it is not JSON ({error}).", "Download it again."
                ) from error
            return {"quant_method": method, **found} if isinstance(found, dict) else found
    return None


def load_model(
    files: tuple[Path, ...], packed: PackedFormat, skeleton: PreTrainedModel, dtype: torch.dtype
) -> PreTrainedModel:
    """Load a model and unpack its packed weights.

    Args:
        files: The safetensors files.
        packed: The format of the packed weights.
        skeleton: The model without weights, on the meta device.
        dtype: Type of the weights.

    Raises:
        CheckpointError: Tensors are missing or damaged, or do not fit the architecture.
    """
    state_dict = _read_state_dict(files, packed, skeleton, dtype)
    model = model_from_state_dict(skeleton.config, state_dict, dtype, type(skeleton))
    generation = files[0].parent / "generation_config.json"
    if generation.is_file() and model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(generation.parent, local_files_only=True)
    return model


def _read_state_dict(
    files: tuple[Path, ...], packed: PackedFormat, skeleton: PreTrainedModel, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Read every tensor; besides the weights, only the tensors of one packed module are in memory."""
    transposed = {name for name, module in skeleton.named_modules() if isinstance(module, Conv1D)}
    state_dict: dict[str, torch.Tensor] = {}
    for module in _modules(files):
        if packed.parts.isdisjoint(module.tensors):
            for part, tensor in module.tensors.items():
                state_dict[_path(module.name, part)] = _ordinary(module, part, tensor).to(dtype)
            continue
        matrix = packed.unpack(module).to(dtype)
        state_dict[_path(module.name, _WEIGHT)] = matrix.T.contiguous() if module.name in transposed else matrix
        others = module.tensors.keys() - packed.parts - {_WEIGHT}
        for part in sorted(others):
            if part != _BIAS or module.tensors[part].any() or _has_bias(skeleton, module.name):
                state_dict[_path(module.name, part)] = _ordinary(module, part, module.tensors[part]).to(dtype)
    return state_dict


def _modules(files: tuple[Path, ...]) -> Iterator[PackedModule]:
    """The tensors of all files by module; those of one module may be in several files."""
    with ExitStack() as stack:
        found: dict[str, dict[str, Any]] = {}
        for file in files:
            content = stack.enter_context(safe_open(file, framework="pt"))
            for name in content.keys():  # noqa: SIM118  # not a mapping
                module, _, part = name.rpartition(".")
                found.setdefault(module, {})[part] = content
        for module, parts in found.items():
            tensors = {part: content.get_tensor(_path(module, part)) for part, content in parts.items()}
            yield PackedModule(module, tensors)


def _ordinary(module: PackedModule, part: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of a module that is not packed; integers are refused, since they would be used as plain values."""
    if part in (_WEIGHT, _BIAS) and tensor.dtype not in _FLOATS:
        raise module.error(part, f"is {tensor.dtype}, but nothing beside it says what its values stand for")
    return tensor


def _has_bias(skeleton: PreTrainedModel, name: str) -> bool:
    """Whether the architecture has a bias there: AutoGPTQ once wrote a zero bias for every module."""
    try:
        return getattr(skeleton.get_submodule(name), _BIAS, None) is not None
    except AttributeError:  # a name that transformers converts on loading
        return True


def _path(module: str, part: str) -> str:
    return f"{module}.{part}" if module else part
