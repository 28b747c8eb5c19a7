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
from tests.diffusion_models import EOS, MASK, PlainModel, small_generator
from tests.originals import original_text
from tests.other_models import VOCAB_SIZE, tiny_bert, words

PROMPTS = [[5, 9, 30, 31, 8, 7], [6] * 8, [1, 2, 4], list(range(4, 29))]
COUNT = 13
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "llada": (torch_canvas.llada, {"num_steps": 8, "block_length": 5}, {}),
    "dream": (torch_canvas.dream, {"num_steps": 13, "threshold": 0.3}, {}),
    "sdar": (torch_canvas.sdar, {}, {"num_steps": 4, "block_length": 4}),
    "a2d-qwen3": (torch_canvas.sdar, {"threshold": 0.5, "num_steps": 3}, {"block_length": 6}),
}
"""For each format: the reference's loop, the options of the export, and what else the loop must know."""


@cache
def _bundle(place: Path, name: str) -> Path:
    folder = PlainModel(name).write(place / f"published-{name}")
    options = CASES[name][1] | ({} if name in ("llada", "dream", "sdar") else {"mask_token_id": MASK})
    return export_checkpoint(folder, place / f"bundle-{name}", options)


def _generator(place: Path, name: str, batch: int, precision: str = "float32") -> Generator:
    return small_generator(_bundle(place, name), batch, precision)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", CASES)
def test_a_published_model_writes_what_its_reference_writes(name: str, batch: int, place: Path) -> None:
    loop, options, more = CASES[name]
    with _generator(place, name, batch) as generator:
        found = generator.generate(PROMPTS, max_new_tokens=COUNT)
    expected = [loop(PlainModel(name), prompt, COUNT, MASK, **options, **more) for prompt in PROMPTS]
    assert len({token for text in expected for token in text}) > 9
    for text, result in zip(expected, found, strict=True):
        assert result.token_ids == text[: len(result.token_ids)]
        assert len(result.token_ids) == COUNT or (result.finish_reason, result.token_ids[-1]) == ("eos", EOS)
    plan = open_bundle(_bundle(place, name)).manifest.plan
    assert plan.canvas is not None and plan.canvas.cache is (CanvasCache.BLOCK if more else CanvasCache.NONE)


@pytest.mark.parametrize("name", ["dream", "sdar"])
def test_an_int8_build_writes_alike_in_every_row_and_passes_the_check(name: str, place: Path) -> None:
    with _generator(place, name, 4, "int8") as generator:
        together = generator.generate(PROMPTS, max_new_tokens=COUNT)
        alone = [generator.generate(prompt, max_new_tokens=COUNT) for prompt in PROMPTS]
    assert [result.token_ids for result in together] == [result.token_ids for result in alone]
    reports = check_bundle(_bundle(place, name))
    assert len(reports) > 2 and all(report.passed for report in reports), [one.divergences for one in reports]


def test_a_masked_language_model_fills_a_canvas_from_its_checkpoint(place: Path) -> None:
    folder = place / "published-bert"
    tiny_bert().save_pretrained(folder)
    words(VOCAB_SIZE, pad_token="<pad>", mask_token="<mask>").save_pretrained(folder)
    bundle = export_checkpoint(folder, place / "bundle-bert", {"num_steps": 5})
    made = build(bundle, BuildOptions(precision="float32", batch_size=2, max_length=24, stage=Stage.PREPARE))
    mask, plan = 1, open_bundle(bundle).manifest.plan
    prompts = [[9, 10, 11], [20]]
    with Generator(bundle, build=made.path.name) as generator:
        found = generator.generate(prompts, max_new_tokens=9)
    for prompt, result in zip(prompts, found, strict=True):
        expected = original_text({"denoiser": tiny_bert()}, plan, [*prompt, *[mask] * 9])
        assert result.token_ids == expected.token_ids[len(prompt) :]
