"""Checkpoints of learned drafters: weights that only make sense beside their target."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import LlamaConfig

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint, locate
from ptgc.exporters.checkpoint.config import foreign_errors, read_settings
from ptgc.exporters.checkpoint.safetensors_files import find_safetensors
from ptgc.exporters.checkpoint.task import Task

_PICKLE = "pytorch_model.bin"
_LAYER = "transformer_layer_config"  # where vllm-project/speculators has what the others have at the top


def open_drafter(source: str) -> Checkpoint:
    """Find a learned drafter's weights and configuration.

    Args:
        source: A directory with config.json and weights, or a hub id.

    Raises:
        CheckpointError: It is missing, incomplete or damaged.
    """
    try:
        directory, commit = locate(source, None, trust_remote_code=False)
        if not directory.is_dir():
            raise CheckpointError(f"Cannot open the drafter '{source}': it is a file.", "Give its directory.")
        files = find_safetensors(directory) or tuple(f for f in (directory / _PICKLE,) if f.is_file())
        if not files:
            raise CheckpointError(
                f"Cannot open the drafter '{source}': it has neither model.safetensors nor {_PICKLE}.",
                "Give the directory of a learned drafter.",
            )
        settings = read_settings(directory)
        size = sum(file.stat().st_size for file in files)
    except OSError as error:
        raise CheckpointError(f"Cannot read the drafter '{source}': {error}.", "Check its permissions.") from error
    with foreign_errors(source):
        config = LlamaConfig(**{**settings, **settings.get(_LAYER, {})})
    return Checkpoint(source, directory, config, files, size, commit, task=Task.DRAFTER)


def read_tensors(drafter: Checkpoint, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a learned drafter, by name.

    Args:
        drafter: Its checkpoint.
        names: Those that are read, of a checkpoint that holds more; by default all.

    Raises:
        CheckpointError: A file holds something else.
    """
    found: dict[str, Tensor] = {}
    for file in drafter.weight_files:
        if file.name == _PICKLE:
            found |= _unpickled(file)
            continue
        with safe_open(file, framework="pt") as content:
            wanted = [name for name in content.keys() if names is None or name in names]  # noqa: SIM118  # it is no mapping
            found |= {name: content.get_tensor(name) for name in wanted}
    return found


def _unpickled(file: Path) -> dict[str, Tensor]:
    """Tensors of a file of PyTorch's; nothing but tensors is made of it, and no code runs."""
    try:
        made: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"Cannot read '{file}': it holds more than tensors, or is damaged ({str(error).splitlines()[0]}).",
            "Convert it to model.safetensors where you trust it.",
        ) from error
    if not isinstance(made, dict) or not all(isinstance(value, Tensor) for value in made.values()):
        raise CheckpointError(f"Cannot read '{file}': it is no dictionary of tensors.", "Download it again.")
    return made
