"""Folders of onnxruntime-genai, made with its own model builder and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ptgc.errors import BackendError, BuildError, CheckpointError, StorageError
from ptgc.runtime.costs import cache_directory

PRECISIONS = {"float32": "fp32", "int8": "int8", "int4": "int4"}
"""Our names, and the builder's."""

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model")
_SHOWN_LINES = 5
_CHUNK = 1 << 22


def genai_version() -> str:
    """Version of the installed package.

    Raises:
        BackendError: It is not installed; says how to install it.
    """
    try:
        return version("onnxruntime-genai")
    except PackageNotFoundError as error:
        raise BackendError(
            "onnxruntime-genai, which this benchmark compares with, is not installed.",
            'Install it: pip install "ptgc[bench]"',
        ) from error


def genai_folder(model: Path, precision: str, progress: Callable[[str], None]) -> Path:
    """The folder for a checkpoint and a precision, made now or before.

    Args:
        model: A Hugging Face directory.
        precision: float32, int8 or int4.
        progress: Called with what takes time.

    Raises:
        BackendError: onnxruntime-genai is not installed.
        CheckpointError: There is no model in the directory.
        BuildError: The builder failed.
        StorageError: The cache cannot be written.
    """
    name = f"{source_hash(model)[:16]}-{genai_version()}-{PRECISIONS[precision]}"
    folder = cache_directory() / "genai" / name
    if (folder / "genai_config.json").is_file():
        return folder
    progress(f"Building for onnxruntime-genai ({precision})")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as scratch:
            _run_builder(model, precision, Path(scratch))
            shutil.rmtree(folder, ignore_errors=True)
            (Path(scratch) / "made").rename(folder)
    except OSError as error:
        raise StorageError(
            f"Cannot write {folder}: {error}.", "Make room, or name another cache in $PTGC_CACHE."
        ) from error
    return folder


def source_hash(model: Path) -> str:
    """Digest of a checkpoint's files and their names.

    Raises:
        CheckpointError: There is no model in the directory.
    """
    if not (model / "config.json").is_file() or not any(model.glob("*.safetensors")):
        raise CheckpointError(
            f"There is no model in {model}: a Hugging Face directory has config.json and *.safetensors.",
            "Fetch one: python tools/fetch_models.py smollm2-135m-instruct",
        )
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _FILES for path in model.glob(pattern)}):
        digest.update(f"{path.name}\n{path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _run_builder(model: Path, precision: str, scratch: Path) -> None:
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(model)]
    places = ["-o", str(scratch / "made"), "-c", str(scratch / "cache")]
    made = subprocess.run(
        [*builder, *places, "-p", PRECISIONS[precision], "-e", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"},
    )
    if made.returncode != 0 or not (scratch / "made" / "genai_config.json").is_file():
        said = [line for line in made.stdout.splitlines() if line.strip()]
        raise BuildError(f"onnxruntime-genai's builder failed for {precision}.", "\n".join(said[-_SHOWN_LINES:]))
