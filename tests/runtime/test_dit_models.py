"""MDLM, BD3-LM and SEDD from their published formats to text, against plain PyTorch on the published tensors."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from ptgc.compiler.checking.check import check_bundle
from ptgc.exporters import export_checkpoint
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from tests import torch_canvas
from tests.diffusion_models import MASK, small_generator
from tests.dit_models import PlainDit

PROMPTS = [[5, 9, 30, 31, 8, 7], [6] * 8, [1, 2, 4], list(range(4, 29))]
COUNT, STEPS = 12, 6
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "mdlm": (torch_canvas.llada, {"num_steps": STEPS}, {}),
    "mdlm-time": (torch_canvas.mdlm, {"num_steps": STEPS}, {}),
    "sedd": (torch_canvas.mdlm, {"num_steps": STEPS}, {}),
    "bd3lm": (torch_canvas.sdar, {"num_steps": 3, "threshold": 0.7}, {"block_length": 4}),
}
"""For each format: the reference's loop, the options of the export, and what else the loop must know."""


@cache
def _bundle(place: Path, name: str) -> Path:
    folder = PlainDit(name).write(place / f"published-{name}")
    return export_checkpoint(folder, place / f"bundle-{name}", CASES[name][1])


def _generator(place: Path, name: str, batch: int) -> Generator:
    return small_generator(_bundle(place, name), batch)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", CASES)
def test_a_published_model_writes_what_its_reference_writes(name: str, batch: int, place: Path) -> None:
    loop, options, more = CASES[name]
    with _generator(place, name, batch) as generator:
        found = generator.generate(PROMPTS, max_new_tokens=COUNT)
    expected = [loop(PlainDit(name), prompt, COUNT, MASK, **options, **more) for prompt in PROMPTS]
    assert len({token for text in expected for token in text}) > 5
    assert [result.token_ids for result in found] == expected


@pytest.mark.parametrize("name", CASES)
def test_every_form_of_the_bundle_passes_the_check(name: str, place: Path) -> None:
    _generator(place, name, 1).close()
    reports = check_bundle(_bundle(place, name))
    assert len(reports) > 2 and all(report.passed for report in reports), [one.divergences for one in reports]


@pytest.mark.parametrize("name", ["mdlm-time", "sedd"])
def test_a_model_that_reads_the_noise_level_needs_the_right_one(name: str, place: Path) -> None:
    plain, options = PlainDit(name), CASES[name][1]
    right = [torch_canvas.mdlm(plain, prompt, COUNT, MASK, **options) for prompt in PROMPTS]
    wrong = [torch_canvas.llada(plain, prompt, COUNT, MASK, **options) for prompt in PROMPTS]  # always 1
    assert right != wrong
    denoiser = open_bundle(_bundle(place, name)).manifest.roles["denoiser"]
    assert "time" in [port.name for port in denoiser.inputs]
    without = open_bundle(_bundle(place, "mdlm")).manifest.roles["denoiser"]
    assert "time" not in [port.name for port in without.inputs]


def test_scores_of_masked_positions_are_the_softmax_over_other_tokens() -> None:
    plain, ids = PlainDit("sedd"), torch.tensor([5, MASK, 7, MASK])
    sees = torch.ones(4, 4, dtype=torch.bool)
    for time in (1.0, 0.6, 0.01):
        scores = plain(ids, sees, time).exp()[ids == MASK, :-1]
        logits = plain.logits(ids, sees, -torch.log1p(torch.tensor(-0.999 * time)).item())[ids == MASK, :-1]
        torch.testing.assert_close(scores / scores.sum(-1, keepdim=True), logits.softmax(-1))
