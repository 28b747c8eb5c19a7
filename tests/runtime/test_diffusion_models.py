"""Diffusion language models from their published formats to text, against plain PyTorch on the published tensors."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.exporters import export_checkpoint
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.canvas import CanvasCache
from tests import torch_canvas
from tests.diffusion_models import EOS, MASK, PlainModel
from tests.originals import original_text

PROMPTS = [[5, 9, 30, 31, 8, 7], [6] * 8, [1, 2, 4], list(range(4, 29))]
COUNT = 13
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "llada": (torch_canvas.llada, {"num_steps": 8, "block_length": 5}, {}),
    "dream": (torch_canvas.dream, {"num_steps": 13, "threshold": 0.3}, {}),
    "sdar": (torch_canvas.sdar, {}, {"num_steps": 4, "block_length": 4}),
    "a2d-llama": (torch_canvas.llada, {"num_steps": 4, "mask_token_id": MASK}, {}),
    "a2d-qwen2": (torch_canvas.dream, {"num_steps": 5, "mask_token_id": MASK}, {}),
    "a2d-qwen3": (
        torch_canvas.sdar,
        {"threshold": 0.3, "mask_token_id": MASK},
        {"num_steps": 5, "block_length": 5},
    ),
}
"""For each format: the reference's loop, the options of the export, and what else the loop must know."""


@cache
def _bundle(place: Path, name: str) -> Path:
    folder = PlainModel(name).write(place / f"published-{name}")
    return export_checkpoint(folder, place / f"bundle-{name}", dict(CASES[name][1]))


def _generator(place: Path, name: str, batch: int, precision: str = "float32") -> Generator:
    options = BuildOptions(
        precision=precision, batch_size=batch, max_length=48, stage=Stage.PREPARE, build_id=f"{precision}-{batch}"
    )
    made = build(_bundle(place, name), options)
    return Generator(made.path.parents[1], build=made.path.name)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", CASES)
def test_a_published_model_writes_what_its_reference_writes(name: str, batch: int, place: Path) -> None:
    loop, options, more = CASES[name]
    policy = {key: value for key, value in options.items() if key != "mask_token_id"} | more
    with _generator(place, name, batch) as generator:
        found = generator.generate(PROMPTS, max_new_tokens=COUNT)
    expected = [loop(PlainModel(name), prompt, COUNT, MASK, **policy) for prompt in PROMPTS]
    assert len({token for text in expected for token in text}) > 9
    for text, result in zip(expected, found, strict=True):
        assert result.token_ids == text[: len(result.token_ids)]
        assert len(result.token_ids) == COUNT or (result.finish_reason, result.token_ids[-1]) == ("eos", EOS)
