"""Checkpoints of learned drafters: weights that only make sense beside their target."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import LlamaConfig, PreTrainedConfig

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint, locate
from ptgc.exporters.checkpoint.config import foreign_errors, read_settings
from ptgc.exporters.checkpoint.safetensors_files import SINGLE_FILE, SUFFIX, find_safetensors, read_header
from ptgc.exporters.checkpoint.task import Task
from ptgc.exporters.checkpoint.tensor_fit import check_fit

_CHOOSE = "Choose a drafter that was trained for this model."
_PICKLE = "pytorch_model.bin"
_LAYER = "transformer_layer_config"  # where vllm-project/speculators has what the others have at the top


def open_drafter(source: str, make_config: Callable[..., PreTrainedConfig] = LlamaConfig) -> Checkpoint:
    """Find a learned drafter's weights and the configuration of its layers.

    Args:
        source: A directory with config.json and weights, or a hub id.
        make_config: Makes its configuration from the settings in config.json.

    Raises:
        CheckpointError: It is missing, incomplete or damaged.
    """
    found, settings = _open(source, ())
    with foreign_errors(source):
        config = make_config(**{**settings, **settings.get(_LAYER, {})})
    return replace(found, config=config)


def open_heads(source: str, names: Sequence[str]) -> Checkpoint:
    """Find the weights of heads, whose config.json transformers does not know: `read_settings` reads it.

    Args:
        source: A directory with config.json and weights, or a hub id.
        names: Files that their weights may be in other than the usual ones; the first that exists is taken.

    Raises:
        CheckpointError: It is missing, incomplete or damaged.
    """
    return _open(source, names)[0]


def _open(source: str, names: Sequence[str]) -> tuple[Checkpoint, dict[str, Any]]:
    """The checkpoint, and its config.json."""
    usual = (SINGLE_FILE, _PICKLE)
    try:
        directory, commit = locate(source, None, trust_remote_code=False, also=(*names, _PICKLE))
        if not directory.is_dir():
            raise CheckpointError(f"Cannot open the drafter '{source}': it is a file.", "Give its directory.")
        files = _weight_files(directory, names)
        if not files:
            *others, last = (*names, *usual)
            raise CheckpointError(
                f"Cannot open the drafter '{source}': it has neither {', '.join(others)} nor {last}.",
                "Give the directory of a learned drafter.",
            )
        settings = read_settings(directory)
        size = sum(file.stat().st_size for file in files)
    except OSError as error:
        raise CheckpointError(f"Cannot read the drafter '{source}': {error}.", "Check its permissions.") from error
    return Checkpoint(source, directory, PreTrainedConfig(), files, size, commit, task=Task.DRAFTER), settings


def _weight_files(directory: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The first of these files that exists, or the usual ones; headers of safetensors are checked."""
    for name in names:
        file = directory / name
        if file.is_file():
            if file.suffix == SUFFIX:
                read_header(file)
            return (file,)
    pickle = directory / _PICKLE
    return find_safetensors(directory) or ((pickle,) if pickle.is_file() else ())


def tensor_names(drafter: Checkpoint) -> set[str]:
    """The names of all tensors of a learned drafter.

    Raises:
        CheckpointError: A file holds something else.
    """
    found = set[str]()
    for file in drafter.weight_files:
        found |= read_header(file).tensors if file.suffix == SUFFIX else _unpickled(file).keys()
    return found


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
        if file.suffix != SUFFIX:
            found |= {name: tensor for name, tensor in _unpickled(file).items() if names is None or name in names}
            continue
        with safe_open(file, framework="pt") as content:
            wanted = [name for name in content.keys() if names is None or name in names]  # noqa: SIM118  # it is no mapping
            found |= {name: content.get_tensor(name) for name in wanted}
    return found


def _unpickled(file: Path) -> dict[str, Tensor]:
    """The tensors in a file that PyTorch wrote with pickle; no code in it runs, and nothing else may be in it."""
    try:
        made: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"Cannot read '{file}': it holds more than tensors, or is damaged ({str(error).splitlines()[0]}).",
            "Convert it to model.safetensors where you trust it.",
        ) from error
    if not isinstance(made, dict) or not all(isinstance(value, Tensor) for value in made.values()):
        raise CheckpointError(f"Cannot read '{file}': it is no dictionary of tensors.", "Download it again.")
    return made


def drafted_ids(tensors: Mapping[str, Tensor], count: int, vocab_size: int) -> list[int]:
    """The target's ids of the tokens that are drafted; `d2t` is what is to be added to each drafted id.

    Args:
        tensors: With `d2t`, or without where all tokens are drafted.
        count: How many are.
        vocab_size: The target's.

    Raises:
        ExportError: They are not different ids of its vocabulary.
    """
    ids = torch.arange(count)
    if "d2t" in tensors:
        if tensors["d2t"].shape != ids.shape:
            shape = list(tensors["d2t"].shape)
            raise ExportError(f"The drafter drafts {count} tokens; its d2t, {shape}, says which.", _CHOOSE)
        ids = ids + tensors["d2t"].long()
    elif count != vocab_size:
        raise ExportError(f"The drafter drafts {count} of {vocab_size} tokens, and has no d2t to say which.", _CHOOSE)
    check_drafted(ids, "d2t", vocab_size)
    found: list[int] = ids.tolist()
    return found


def check_drafted(ids: Tensor, name: str, vocab_size: int) -> None:
    """Check the target's ids of the tokens that are drafted.

    Args:
        ids: The ids.
        name: The tensor that says which they are.
        vocab_size: The target's.

    Raises:
        ExportError: They are not different ids of its vocabulary.
    """
    if not len(ids) or int(ids.min()) < 0 or int(ids.max()) >= vocab_size:
        given = f"from {int(ids.min())} to {int(ids.max())}" if len(ids) else "none"
        raise ExportError(f"The drafter's {name} names tokens {given}; the target has {vocab_size}.", _CHOOSE)
    if len(set(ids.tolist())) != len(ids):
        raise ExportError(f"The drafter's {name} names a token twice.", _CHOOSE)


def fill(
    module: nn.Module,
    given: Mapping[str, Tensor],
    dtype: torch.dtype,
    *,
    there: tuple[str, ...] = (),
    shared: tuple[str, ...] = (),
    name: str = "the drafter",
) -> None:
    """Put weights in their places, for inference.

    Args:
        module: Where they go.
        given: Weights by the module's own names.
        dtype: Of the target.
        there: Names, or beginnings of them, of what need not be given because the target has it.
        shared: The same of what must not be given, because it is the target's own.
        name: What the module is called in messages.

    Raises:
        CheckpointError: Tensors are missing, of another shape, or have no place; all of them are named.
    """
    wanted = {one: tensor for one, tensor in module.state_dict().items() if not one.startswith(shared)}
    shapes = [(one, given[one].shape, wanted[one].shape) for one in given.keys() & wanted.keys()]
    report = {
        "missing_keys": {one for one in wanted.keys() - given.keys() if not one.startswith(there)},
        "unexpected_keys": given.keys() - wanted.keys(),
        "mismatched_keys": [(one, found, fitting) for one, found, fitting in shapes if found != fitting],
    }
    check_fit(name, type(module).__name__, report)
    module.load_state_dict(dict(given), strict=False)
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)  # not the buffers: rotary frequencies would be rounded
    module.eval().requires_grad_(False)
