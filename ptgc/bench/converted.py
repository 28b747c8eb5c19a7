"""Converts checkpoints to the formats of peers, each in its own process, and caches the results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ptgc.bench.checkpoint_files import CheckpointFiles
from ptgc.errors import BuildError
from ptgc.runtime.measured import cache_directory
from ptgc.spec.staging import staged_directory


@dataclass(frozen=True)
class Format:
    """The file format of a peer."""

    package: str
    """The package that reads it; folders made with another version are not used."""
    file: str
    """The file with the weights."""


FORMATS = {
    "openvino-genai": Format("openvino-genai", "openvino_model.bin"),
    "llama.cpp": Format("llama-cpp-python", "model.gguf"),
    "ctranslate2": Format("ctranslate2", "model.bin"),
}

_QUIET = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
_SHOWN_LINES = 5


def converted(peer: str, checkpoint: CheckpointFiles, precision: str, progress: Callable[[str], None]) -> Path:
    """The weights of a checkpoint in a peer's format; made if they are not cached.

    Args:
        peer: Name of the peer, one of `FORMATS`.
        checkpoint: The checkpoint to convert.
        precision: Precision of the weights.
        progress: Called with what takes time.

    Raises:
        BuildError: The converter failed.
        StorageError: The cache cannot be written.
    """
    made_for = FORMATS[peer]
    folder = cache_directory() / peer / f"{checkpoint.key}-{version(made_for.package)}-{precision}"
    if not (folder / made_for.file).is_file():
        progress(f"Converting {checkpoint.path.name} for {peer} ({precision})")
        with staged_directory(folder, replace=True) as made:
            command = ["-m", "ptgc.bench.convert", peer, str(checkpoint.path), precision, str(made)]
            run_converter(command, made / made_for.file, f"{peer}'s conversion failed for {precision}.")
    return folder / made_for.file


def run_converter(arguments: Sequence[str], product: Path, failure: str) -> None:
    """Run Python with these arguments, without network or telemetry.

    Args:
        arguments: The module and its arguments.
        product: The file that it writes last.
        failure: The message of an error; the last lines of the output are added.

    Raises:
        BuildError: It failed, or did not write the file.
    """
    made = subprocess.run(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, **_QUIET},
    )
    if made.returncode != 0 or not product.is_file():
        said = [line for line in made.stdout.splitlines() if line.strip()]
        raise BuildError(failure, "\n".join(said[-_SHOWN_LINES:]))
