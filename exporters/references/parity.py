"""A bundle against PyTorch: the texts that the original writes now, in the form of the bundle's reference texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from ptgc.errors import UsageError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint, open_checkpoint
from ptgc.exporters.references.references import reference_of
from ptgc.spec.bundle import Bundle

_WEIGHTS = (".safetensors", ".gguf")


def original_texts(bundle: Bundle, model: str | Path) -> dict[str, Any]:
    """Write the bundle's reference texts again with PyTorch; what drafts has no part in them.

    Args:
        bundle: The bundle.
        model: The checkpoint that it was exported from.

    Raises:
        UsageError: The checkpoint is not the bundle's.
        CheckpointError: See `open_checkpoint`.
    """
    provenance = bundle.manifest.provenance
    checkpoint = open_checkpoint(model)
    _check_same(bundle, checkpoint, provenance)
    roles = dict.fromkeys(bundle.manifest.roles, checkpoint.load_model())
    return reference_of(roles, bundle.manifest.plan, checkpoint.load_tokenizer())


def find_source(provenance: Mapping[str, Any]) -> Path | None:
    """The bundle's source checkpoint in the hub's cache; None if it is not there or came from a path."""
    source, revision = provenance.get("source"), provenance.get("revision")
    if not isinstance(source, str) or not isinstance(revision, str):
        return None
    try:
        return Path(snapshot_download(source, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None


def _check_same(bundle: Bundle, checkpoint: Checkpoint, provenance: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the export, since they would cause every difference."""
    recorded = {name: digest for name, digest in provenance.get("files", {}).items() if name.endswith(_WEIGHTS)}
    found = checkpoint.hashes()
    other = sorted(name for name, digest in recorded.items() if found.get(name) != digest)
    if other:
        raise UsageError(
            f"'{checkpoint.source}' is not what {bundle.path} was exported from: {other[0]} differs.",
            "Give the checkpoint of this bundle, or export it again.",
        )
