"""What the tests of learned drafters' checkpoints share: folders, damage to them, and a look at every round."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.exporters.from_checkpoint import export_checkpoint
from tests.drafted import drafted
from tests.models import prompt, save, tiny_model

NEW_TOKENS = 40
Tensors = dict[str, Tensor]
Change = Callable[[Tensors], Tensors]


def write(folder: Path, tensors: Tensors, settings: dict[str, Any], file: str = "model.safetensors") -> Path:
    """A checkpoint folder."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    if file.endswith(".safetensors"):
        save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / file)
    else:
        torch.save(tensors, folder / file)
    return folder


@cache
def target_folder(place: Path) -> Path:
    """The tiny llama's."""
    folder = place / "drafters-target"
    folder.mkdir()
    return save(tiny_model("llama"), folder)


def run(*arguments: object) -> str:
    """What a command that succeeds prints."""
    result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def accepted_in_rounds(bundle: Path, expected: Callable[[list[int]], list[int]], count: int = 3) -> list[int]:
    """How many of its drafts each full round accepted, after a look at what it drafted behind its text."""
    found = []
    for length in (1, 5, 40):
        ids = prompt(length)
        for one in drafted(bundle, ids, NEW_TOKENS).trace:
            if len(one.drafted_ids) == count:
                assert one.drafted_ids == expected(ids)
                found.append(one.accepted)
            ids = [*ids, *one.emitted_ids]
    return found


def without(*names: str) -> Change:
    """Leaves tensors out."""
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def having(**changed: Any) -> Change:
    """Adds or replaces tensors."""
    return lambda tensors: tensors | changed


def check_refused(place: Path, options: Any, error: type[Exception], said: str) -> None:
    """A drafter of the tiny llama is refused with these words, and nothing is left of the bundle."""
    bundle = Path(options.drafter).parent / "refused"
    with pytest.raises(error, match=said):
        export_checkpoint(target_folder(place), bundle, options)
    assert not bundle.exists()
