"""Bundles of drafters that need no training, made by the public commands, and models that suit them."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from ptgc.cli.app import app
from tests.models import save, tiny_model


@cache
def nearly_bigrams() -> Any:
    """A model whose next token is mostly a matter of the last one, so that tokens are often followed by the same."""
    model = copy.deepcopy(tiny_model("llama"))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.1)
    return model


@cache
def mostly_positions() -> Any:
    """A model whose next token is partly a matter of the position, so that it is often right after a wrong guess."""
    model = copy.deepcopy(tiny_model("gpt2"))
    with torch.no_grad():
        model.transformer.wpe.weight.mul_(4.0)
    return model


def exported(folder: Path, model: Any, *arguments: object) -> Path:
    """The bundle of a model, with a float32 build."""
    checkpoint, bundle = folder / "model", folder / "bundle"
    checkpoint.mkdir(parents=True)
    save(model, checkpoint)
    command("export", checkpoint, "-o", bundle, "--strategy", *arguments)
    command("build", bundle, "--precision", "float32", "--max-length", 128, "--stage", "prepare")
    return bundle


def command(*arguments: object) -> str:
    """What a command that must succeed writes to stdout."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout
