"""The configuration of a checkpoint: reading it, and refusing models that cannot or must not be loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.task import task_of

CONFIG_FILE = "config.json"
GIVE = "Give a directory with config.json and model.safetensors, a .gguf file, or a hub id such as org/name."


def read_settings(directory: Path) -> dict[str, Any]:
    """Read config.json as plain data, without acting on it.

    Raises:
        CheckpointError: The file is missing or is not a JSON object.
    """
    file = directory / CONFIG_FILE
    if not file.is_file():
        raise CheckpointError(f"Cannot open the checkpoint '{directory}': there is no {CONFIG_FILE} in it.", GIVE)
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"Cannot read '{file}': it is not JSON ({error}).", "Download it again.") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"Cannot read '{file}': it is not a JSON object.", "Download it again.")
    return settings


def read_config(source: str, directory: Path, settings: dict[str, Any], *, trust_remote_code: bool) -> PreTrainedConfig:
    """Make the transformers configuration from config.json, as for the model before quantisation.

    Args:
        source: What the user gave, for messages.
        directory: Directory of the checkpoint.
        settings: What `read_settings` returned.
        trust_remote_code: Allow the configuration's own code to run.

    Raises:
        CheckpointError: It needs code that is not trusted, or is of a kind that ptgc does not export.
    """
    auto_map = settings.get("auto_map")
    classes: dict[str, Any] = auto_map if isinstance(auto_map, dict) else {}
    _refuse_unknown_code(source, settings.get("model_type"), classes, trust_remote_code)
    task_of(source, settings, trust_remote_code=trust_remote_code)
    with foreign_errors(source):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=trust_remote_code
        )
    config.__dict__.pop("quantization_config", None)  # else transformers requires the package that wrote the weights
    return config


def _refuse_unknown_code(source: str, model_type: object, classes: dict[str, Any], trust_remote_code: bool) -> None:
    if isinstance(model_type, str) and model_type in CONFIG_MAPPING:
        return
    if not classes:
        raise CheckpointError(
            f"Cannot open the checkpoint '{source}': its model type {model_type!r} is not in transformers.",
            "Update transformers, or correct model_type in config.json.",
        )
    if not trust_remote_code:
        code = ", ".join(sorted(map(str, classes.values())))
        raise CheckpointError(
            f"Cannot open the checkpoint '{source}': its model type {model_type!r} is not in transformers, "
            f"and needs code that comes with the checkpoint ({code}).",
            "Read that code, and pass --trust-remote-code (trust_remote_code=True) if you trust it.",
        )


@contextmanager
def foreign_errors(source: str) -> Iterator[None]:
    """Turn whatever transformers raises about a checkpoint's content into a `CheckpointError`."""
    try:
        yield
    except Exception as error:  # transformers raises errors of every kind for damaged files
        if isinstance(error, MemoryError):
            raise
        raise CheckpointError(
            f"Cannot load the checkpoint '{source}': {type(error).__name__}: {error}",
            "Check that its files belong together and that the packages it needs are installed.",
        ) from error
