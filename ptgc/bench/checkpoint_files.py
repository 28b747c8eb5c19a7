"""The checkpoint that peers read (a local Hugging Face directory), and a check that a bundle came from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ptgc.errors import CheckpointError, UsageError
from ptgc.spec.bundle import Bundle
from ptgc.spec.bundle_files import sha256

_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model")


@dataclass(frozen=True)
class CheckpointFiles:
    """A Hugging Face directory and the digests of its files."""

    path: Path
    """Its folder."""
    hashes: Mapping[str, str]
    """sha256 of weights, configuration and tokenizer, by file name."""

    @property
    def key(self) -> str:
        """A short name that changes with any of the files."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self.hashes.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]


def read_checkpoint(path: Path) -> CheckpointFiles:
    """Digest a checkpoint's files.

    Raises:
        CheckpointError: There is no model in the directory.
    """
    if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
        raise CheckpointError(
            f"There is no model in {path}: a Hugging Face directory has config.json and *.safetensors.",
            "Give the directory that the bundle was exported from: --model DIR",
        )
    files = sorted({file for pattern in _PATTERNS for file in path.glob(pattern)})
    return CheckpointFiles(path, {file.name: sha256(file) for file in files})


def check_origin(bundle: Bundle, checkpoint: CheckpointFiles) -> None:
    """Refuse a checkpoint whose weights are not the bundle's, because two models would be compared.

    Raises:
        UsageError: The error names the file that differs.
    """
    for name, digest in _weight_hashes(bundle).items():
        if checkpoint.hashes.get(name) != digest:
            raise UsageError(
                f"{checkpoint.path} is not what {bundle.path} was exported from: {name} differs.",
                "Give the checkpoint of this bundle with --model, or export the bundle again.",
            )


def check_same_model(bundle: Bundle, other: Bundle) -> None:
    """Refuse a bundle of another model beside one.

    Raises:
        UsageError: The target's weights differ; the error names both bundles.
    """
    if set(_weight_hashes(bundle).values()) != set(_weight_hashes(other).values()):
        raise UsageError(
            f"{other.path} was exported from another model than {bundle.path}.",
            "Export both from one checkpoint; --beside compares strategies.",
        )


def _weight_hashes(bundle: Bundle) -> dict[str, str]:
    """sha256 of the files of weights that a bundle was exported from, by name."""
    recorded: Mapping[str, str] = bundle.manifest.provenance.get("files", {})
    return {name: digest for name, digest in recorded.items() if name.endswith(".safetensors")}
