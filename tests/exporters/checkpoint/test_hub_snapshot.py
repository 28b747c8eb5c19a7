"""Tests of checkpoints on a fake hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint import hub_snapshot
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Replace the hub: it returns the given path, or raises the given exception."""

    def answer(result: Any) -> None:
        def snapshot(*_: Any, **options: Any) -> str:
            assert not any("bin" in pattern or ".pt" in pattern for pattern in options["allow_patterns"])
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr(hub_snapshot, "snapshot_download", snapshot)

    return answer


def test_hub_id_is_downloaded_and_its_commit_kept(directory: Path, hub: Callable[[Any], None]) -> None:
    commit = directory.rename(directory.with_name("0123abc"))
    hub(commit)
    checkpoint = open_checkpoint("org/name", revision="main")
    assert (checkpoint.source, checkpoint.revision) == ("org/name", "0123abc")


def test_hub_out_of_reach_is_an_error(hub: Callable[[Any], None]) -> None:
    hub(LocalEntryNotFoundError("offline"))
    with pytest.raises(CheckpointError, match=r"'org/name'.*hub cannot be reached"):
        open_checkpoint("org/name")


def test_offline_mode_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="hub cannot be reached"):
        open_checkpoint("surely-no-such-organisation/model")
