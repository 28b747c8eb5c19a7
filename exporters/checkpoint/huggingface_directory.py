"""Models from state dicts, and ordinary Hugging Face directories from models."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from ptgc.errors import CheckpointError, StorageError
from ptgc.exporters.checkpoint.tensor_fit import check_fit

_ONE_FILE = 1 << 62  # bytes per shard, more than any model has


def model_from_state_dict(
    config: PreTrainedConfig,
    state_dict: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    model_class: type[PreTrainedModel] | None = None,
) -> PreTrainedModel:
    """Build a model around tensors, without a second copy of them.

    Args:
        config: Configuration of an architecture in transformers.
        state_dict: Every tensor by its name in that architecture; a tied head may be left out.
        dtype: Type of the model's weights.
        model_class: The transformers class; by default the architecture's causal language model.

    Returns:
        The model in evaluation mode, with eager attention and without gradients.

    Raises:
        CheckpointError: A tensor is missing, unknown or of another shape than the configuration says.
    """
    model_class = model_class or causal_model_class(config)
    with quiet_transformers():
        try:
            loaded: Any = model_class.from_pretrained(
                None,
                config=config,
                state_dict=dict(state_dict),
                dtype=dtype,
                attn_implementation="eager",
                ignore_mismatched_sizes=True,  # all are reported below
                output_loading_info=True,
            )
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"Cannot build {model_class.__name__}: its tensors do not fit its configuration ({error})."
            ) from error
    model, report = loaded
    check_fit("the checkpoint", model_class.__name__, report)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config._from_model_config = False  # else transformers makes it anew, without later changes
    return frozen(model)


def causal_model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the transformers class of the causal language model for a configuration."""
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return cast("type[PreTrainedModel]", model_class)


def write_huggingface_directory(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, output: Path
) -> None:
    """Write config.json, generation_config.json, model.safetensors and the tokenizer's files.

    The directory is written elsewhere and renamed when complete: `output` appears completely or not at all.

    Args:
        model: A transformers model; its generation settings are written with it.
        tokenizer: Its tokenizer, or None; a chat template goes into tokenizer_config.json.
        output: Directory that does not exist yet.

    Raises:
        StorageError: `output` exists, the disk is full, or the path cannot be written.
    """
    if output.exists():
        raise StorageError(f"Cannot write '{output}': it exists.", "Choose another directory, or remove it.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as aside:
            content = Path(aside) / output.name
            with quiet_transformers():
                model.save_pretrained(content, max_shard_size=_ONE_FILE)
                if tokenizer is not None:
                    tokenizer.save_pretrained(content, save_jinja_files=False)
            _make_ordinary(content)
            content.rename(output)
    except (OSError, SafetensorError) as error:
        raise storage_error(output, error) from error


def _make_ordinary(directory: Path) -> None:
    """Make the files readable for every user and every version of transformers."""
    mode = (directory / "config.json").stat().st_mode
    for file in directory.iterdir():
        file.chmod(mode)  # safetensors creates files that only their owner can read
    settings_file = directory / "tokenizer_config.json"
    if settings_file.is_file():
        settings = json.loads(settings_file.read_text(encoding="utf-8"))
        if settings.get("tokenizer_class") == "TokenizersBackend":  # its name since version 5
            settings["tokenizer_class"] = "PreTrainedTokenizerFast"
            text = json.dumps(settings, indent=2, ensure_ascii=False)
            settings_file.write_text(f"{text}\n", encoding="utf-8")


def storage_error(path: Path, error: Exception) -> StorageError:
    """Say why a path could not be written; for a full disk, how much space is left."""
    if not is_disk_full(error):
        return StorageError(f"Cannot write '{path}': {error}.", "Check the path and its permissions.")
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    return StorageError(
        f"Cannot write '{path}': the disk is full ({free // 2**20} MiB free).",
        "Make room, or choose a directory on another disk.",
    )


def is_disk_full(error: Exception) -> bool:
    """Whether an error, ours or a library's, means that no space is left."""
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the reports of transformers, and its progress bars in logs."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    hide = transformers_logging.is_progress_bar_enabled() and not sys.stderr.isatty()
    if hide:
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # not annotated
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if hide:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # not annotated


def frozen(model: PreTrainedModel) -> PreTrainedModel:
    """Put a model into evaluation mode and switch off its gradients."""
    model.train(False)
    model.requires_grad_(False)
    return model
