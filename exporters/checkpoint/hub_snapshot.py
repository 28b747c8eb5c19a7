"""Downloading the files of a checkpoint from the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.huggingface_directory import is_disk_full, storage_error

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_NO_HUB_ID = (".gguf", ".safetensors", ".bin", ".pt", ".json")
_FILES = ("*.safetensors", "*.json", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "*.spm")
_NOT_NEEDED = ("*/*", "consolidated*")  # subfolders hold other formats; consolidated repeats the weights


def is_hub_id(text: str) -> bool:
    """Whether a text could name a model on the hub: 'name' or 'org/name', but not a file."""
    return _HUB_ID.fullmatch(text) is not None and not text.endswith(_NO_HUB_ID)


def download_snapshot(
    hub_id: str, revision: str | None, *, with_code: bool, also: Sequence[str] = ()
) -> tuple[Path, str]:
    """Download weights, configuration and tokenizer, or find them in the hub's cache.

    Args:
        hub_id: 'org/name'.
        revision: Branch, tag or commit; by default the main branch.
        with_code: Also download Python files.
        also: Other files to download.

    Returns:
        The directory with the files, and the commit.

    Raises:
        CheckpointError: There is no such model or revision, or it cannot be reached.
        StorageError: The disk is full.
    """
    patterns = [*_FILES, *(("*.py",) if with_code else ()), *also]
    try:
        snapshot = snapshot_download(hub_id, revision=revision, allow_patterns=patterns, ignore_patterns=[*_NOT_NEEDED])
    except (OSError, ValueError) as error:
        if is_disk_full(error):
            raise storage_error(Path(constants.HF_HUB_CACHE), error) from error
        raise _unreachable(hub_id, revision, error) from error
    return Path(snapshot), Path(snapshot).name


def _unreachable(hub_id: str, revision: str | None, error: Exception) -> CheckpointError:
    at = f" at revision '{revision}'" if revision else ""
    if isinstance(error, GatedRepoError):
        why, action = (
            "access is restricted",
            "Accept its conditions on the hub, and log in with: hf auth login",
        )
    elif isinstance(error, RepositoryNotFoundError):
        why = "no such directory, and no such model on the hub"
        action = "Check the spelling; private models need a login, with: hf auth login"
    elif isinstance(error, RevisionNotFoundError):
        why, action = "the hub has no such revision", "Give a branch, a tag or a commit of this model."
    else:
        why = "no such directory, and the hub cannot be reached and has not been downloaded from before"
        action = "Check the network connection, or give the path of a local checkpoint."
    return CheckpointError(f"Cannot open the checkpoint '{hub_id}'{at}: {why}.", action)
