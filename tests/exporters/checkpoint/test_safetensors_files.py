"""Tests of finding safetensors files, and of every way in which they can be damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint


def test_missing_shards_are_all_named(shards: Path) -> None:
    names = sorted(file.name for file in shards.glob("*.safetensors"))
    for name in names[:2]:
        (shards / name).unlink()
    with pytest.raises(CheckpointError, match=rf"2 of the {len(names)} weight files.*{names[0]}, {names[1]}"):
        open_checkpoint(shards)


def test_index_that_leads_out_of_the_directory_is_refused(shards: Path) -> None:
    index = shards / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../other/model.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"beside it.*\.\./other"):
        open_checkpoint(shards)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_damaged_index_is_an_error(shards: Path, text: str) -> None:
    (shards / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        open_checkpoint(shards)


def test_index_of_another_model_is_an_error(shards: Path) -> None:
    index = shards / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.layers.9.self_attn.q_proj.weight"] = next(shards.glob("*.safetensors")).name
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"lack 1 tensors.*model\.layers\.9\.self_attn\.q_proj\.weight"):
        open_checkpoint(shards)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.99])
def test_half_downloaded_weights_are_an_error(directory: Path, share: float) -> None:
    file = directory / "model.safetensors"
    size = int(file.stat().st_size * share)
    os.truncate(file, size)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors.*{size}"):
        open_checkpoint(directory)


def test_truncated_weights_name_both_sizes(directory: Path) -> None:
    file = directory / "model.safetensors"
    size = file.stat().st_size
    os.truncate(file, size - 100)
    with pytest.raises(CheckpointError, match=rf"truncated.*Expected {size} bytes.*has {size - 100}"):
        open_checkpoint(directory)


def test_bytes_behind_the_weights_are_an_error(directory: Path) -> None:
    with (directory / "model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match="too long"):
        open_checkpoint(directory)


def test_all_truncated_shards_are_named(shards: Path) -> None:
    files = sorted(shards.glob("*.safetensors"))
    for file in files[:2]:
        os.truncate(file, file.stat().st_size - 8)
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(shards)
    assert files[0].name in raised.value.message
    assert files[1].name in raised.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "Git LFS pointer"),
        (b"\xff" * 64, "not a safetensors file"),
        ((8).to_bytes(8, "little") + b"not json", "header is damaged"),
        ((12).to_bytes(8, "little") + b'{"a": "bad"}', "header is damaged"),
    ],
)
def test_what_is_no_safetensors_file_is_an_error(directory: Path, content: bytes, message: str) -> None:
    (directory / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(directory)
