"""Makes folders of onnxruntime-genai with its own model builder, and caches them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ptgc.bench.checkpoint_files import CheckpointFiles
from ptgc.bench.converted import run_converter
from ptgc.errors import BackendError
from ptgc.extras import how_to_install
from ptgc.runtime.measured import cache_directory
from ptgc.spec.staging import scratch_directory, staged_directory

PRECISIONS = {"float32": "fp32", "int8": "int8", "int4": "int4"}
"""The precisions that the builder makes for a CPU: its names by ours."""

Progress = Callable[[str], None]
_CONFIG = "genai_config.json"


def genai_version() -> str:
    """Version of the installed package.

    Raises:
        BackendError: It is not installed; the error says how to install it.
    """
    try:
        return version("onnxruntime-genai")
    except PackageNotFoundError as error:
        raise BackendError(
            "onnxruntime-genai is not installed.", f"Install it: {how_to_install('bench', 'export')}"
        ) from error


def genai_folder(checkpoint: CheckpointFiles, precision: str, progress: Progress) -> Path:
    """The folder for a checkpoint and a precision; made if it is not cached.

    Args:
        checkpoint: The checkpoint that the builder reads.
        precision: float32, int8 or int4.
        progress: Called with what takes time.

    Raises:
        BackendError: onnxruntime-genai is not installed.
        BuildError: The builder failed.
        StorageError: The cache cannot be written.
    """
    folder = _cached(f"{checkpoint.key}-{genai_version()}-{PRECISIONS[precision]}")
    if not (folder / _CONFIG).is_file():
        progress(f"Building {checkpoint.path.name} for onnxruntime-genai ({precision})")
        with staged_directory(folder, replace=True) as made:
            _run_builder(checkpoint.path, precision, made)
    return folder


def genai_pair(target: Path, drafter: Path) -> Path:
    """A folder in which one model drafts for another; both are hard links, which take no space.

    Raises:
        StorageError: The cache cannot be written.
    """
    pair = _cached(f"{target.name}+{drafter.name}")
    if (pair / _CONFIG).is_file():
        return pair
    with staged_directory(pair, replace=True) as made:
        for path in target.iterdir():
            if path.suffix in (".json", ".jinja", ".model"):
                shutil.copy(path, made / path.name)
        config = _read_config(target)
        draft = _read_config(drafter)["model"]["decoder"]
        for name, folder in (("target", target), ("draft", drafter)):
            (made / name).mkdir()
            for path in folder.glob("*.onnx*"):
                os.link(path, made / name / path.name)
        # onnxruntime-genai refuses paths with `..`, so both models must be in subfolders.
        config["model"]["decoder"]["filename"] = f"target/{config['model']['decoder']['filename']}"
        config["model"]["draft"] = {**draft, "filename": f"draft/{draft['filename']}"}
        (made / _CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    return pair


def _cached(name: str) -> Path:
    return cache_directory() / "genai" / name


def _read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    return config


def _run_builder(model: Path, precision: str, output: Path) -> None:
    with scratch_directory() as scratch:
        builder = ["-m", "onnxruntime_genai.models.builder", "-i", str(model), "-o", str(output), "-c", str(scratch)]
        failure = f"onnxruntime-genai's builder failed for {precision}."
        run_converter([*builder, "-p", PRECISIONS[precision], "-e", "cpu"], output / _CONFIG, failure)
