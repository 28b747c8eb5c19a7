"""Opening and loading MDLM, BD3-LM and SEDD by their published formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint
from ptgc.exporters.from_checkpoint import open_sources
from tests.diffusion_models import MASK
from tests.dit_models import CONFIGS, PlainDit

SEES = torch.ones(11, 11, dtype=torch.bool)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_published_tensors(name: str, tmp_path: Path) -> None:
    plain, ids = PlainDit(name), torch.arange(11)
    model: Any = open_checkpoint(plain.write(tmp_path / "x")).load_model()
    for time in (1.0, 0.3) if plain.reads_time else (0.0,):
        given = {"time": torch.tensor([time])} if plain.reads_time else {}
        sigma = -torch.log1p(torch.tensor(-0.999 * time)).item()
        found = model(input_ids=ids[None], attention_mask=SEES[None, None], use_cache=False, **given).logits[0]
        torch.testing.assert_close(found, plain.logits(ids, SEES, sigma), rtol=1e-3, atol=1e-3)
    if not plain.reads_time:
        model.fix_noise_level()
        found = model(input_ids=ids[None], attention_mask=SEES[None, None], use_cache=False).logits[0]
        torch.testing.assert_close(found, plain.logits(ids, SEES, 0.0), rtol=1e-3, atol=1e-3)


def test_checkpoints_choose_their_strategy_and_mask(tmp_path: Path) -> None:
    for name, strategy, length in (("mdlm", "masked", 0), ("sedd", "masked", 0), ("bd3lm", "block", 4)):
        sources = open_sources(PlainDit(name).write(tmp_path / name))
        canvas = sources.plan(None).canvas
        assert canvas is not None and sources.strategy.name == f"{strategy}-diffusion"
        assert (canvas.mask_token_id, canvas.block_length) == (MASK, length)
        other = "block-diffusion" if strategy == "masked" else "masked-diffusion"
        for refused in (other, "ngram"):
            with pytest.raises(ExportError, match="it cannot"):
                open_sources(tmp_path / name, strategy=refused)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("bd3lm", {"causal": True, "time_conditioning": True}, ["causal is True", "time_conditioning is True"]),
        ("sedd", {"graph": {"type": "uniform"}}, ["graph.type is 'uniform', only 'absorb' is read"]),
        ("sedd", {"model": {"type": "ddit"}}, ["Cannot load the checkpoint"]),
        ("mdlm", {"n_heads": "many"}, ["Cannot load the checkpoint"]),
    ],
)
def test_what_cannot_be_read_is_named(name: str, changes: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(PlainDit(name).write(tmp_path / "x", **changes))
    for text in said:
        assert text in raised.value.message


def test_missing_and_unexpected_tensors_are_all_named(tmp_path: Path) -> None:
    plain = PlainDit("mdlm")
    plain.tensors["backbone.blocks.0.k_norm.bias"] = plain.tensors.pop("backbone.blocks.1.attn_qkv.weight")
    with pytest.raises(CheckpointError, match=r"missing: model\.layers\.1\.attention\.qkv\.weight") as raised:
        open_checkpoint(plain.write(tmp_path / "x", n_blocks=2)).load_model()
    assert "backbone.blocks.0.k_norm.bias" in raised.value.message
