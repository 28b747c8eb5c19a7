"""A bundle against PyTorch: what the original writes here and now, in the form of the bundle's reference texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from torch import nn

from ptgc.errors import UsageError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint, open_checkpoint
from ptgc.exporters.references.references import reference_of
from ptgc.spec.bundle import Bundle

_WEIGHTS = (".safetensors", ".gguf")


def original_texts(bundle: Bundle, model: str | Path, drafter: str | Path | None = None) -> dict[str, Any]:
    """Write the bundle's reference texts again with PyTorch.

    Args:
        bundle: The bundle.
        model: The checkpoint that it was exported from.
        drafter: That of its drafter, where it has one.

    Raises:
        UsageError: Another checkpoint than the bundle's, or none for its drafter.
        CheckpointError: See `open_checkpoint`.
    """
    provenance = bundle.manifest.provenance
    checkpoint = open_checkpoint(model)
    _check_same(bundle, checkpoint, provenance)
    roles: dict[str, nn.Module] = {}
    module = checkpoint.load_model()
    for name in bundle.manifest.roles:
        if name == "drafter":
            roles[name] = _load_drafter(bundle, drafter)
        else:
            roles[name] = module
    return reference_of(roles, bundle.manifest.plan, checkpoint.load_tokenizer())


def find_source(provenance: Mapping[str, Any]) -> Path | None:
    """Where the hub's cache holds what a bundle was exported from; None where it does not, or it came from a path."""
    source, revision = provenance.get("source"), provenance.get("revision")
    if not isinstance(source, str) or not isinstance(revision, str):
        return None
    try:
        return Path(snapshot_download(source, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None


def _load_drafter(bundle: Bundle, drafter: str | Path | None) -> nn.Module:
    if drafter is None:
        raise UsageError("This bundle has a drafter; PyTorch needs its checkpoint, too.", "Add --drafter CHECKPOINT.")
    checkpoint = open_checkpoint(drafter)
    _check_same(bundle, checkpoint, bundle.manifest.provenance.get("drafter", {}))
    return checkpoint.load_model()


def _check_same(bundle: Bundle, checkpoint: Checkpoint, provenance: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the export; every difference would be theirs."""
    recorded = {name: digest for name, digest in provenance.get("files", {}).items() if name.endswith(_WEIGHTS)}
    found = checkpoint.hashes()
    other = sorted(name for name, digest in recorded.items() if found.get(name) != digest)
    if other:
        raise UsageError(
            f"'{checkpoint.source}' is not what {bundle.path} was exported from: {other[0]} differs.",
            "Give the checkpoint of this bundle, or export it again.",
        )
