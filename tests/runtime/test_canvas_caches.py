"""Caches of canvases that approximate, through the public calls, against PyTorch with the very cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.checking.check import check_bundle
from ptgc.runtime import Generator
from ptgc.spec.canvas import CanvasCache, CanvasPlan, CanvasStop, PolicyPlan
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from tests.kept_logits import KeptLogits
from tests.loops import loop_build
from tests.other_models import tiny_bert
from tests.unmasking import Rounds, filled, llama_logits, unmask

MASK = 3
PROMPTS = [[9, 10, 11], [20], list(range(4, 24)), [5, 9, 30, 31, 8, 7]]
INFILLED = [[MASK, MASK, 7, MASK, 8, 9], [5, MASK, 7, MASK, MASK, 30, MASK], [*range(4, 24), MASK, 9, MASK, MASK, 6]]
COUNT = 13


def _plan(cache: CanvasCache, block_length: int, *, shift: bool = False, interval: int = 8) -> CanvasPlan:
    policy = PolicyPlan(threshold=0.4)
    return CanvasPlan(MASK, 14, block_length, policy, cache, interval, shift, stop=CanvasStop.EOS)


PLANS = {
    "prefix": _plan(CanvasCache.PREFIX, 5),
    "prefix-shift": _plan(CanvasCache.PREFIX, 0, shift=True),
    "dual": _plan(CanvasCache.DUAL, 5),
    "dual-shift": _plan(CanvasCache.DUAL, 5, shift=True),
    "delayed": _plan(CanvasCache.DELAYED, 0, interval=4),
    "delayed-shift": _plan(CanvasCache.DELAYED, 6, shift=True, interval=5),
}


def _generator(place: Path, plan: CanvasPlan, batch: int) -> Generator:
    made = loop_build(place, "llama", replace(masked_diffusion(MASK), canvas=plan), batch, "float32")
    return Generator(made.parents[1], build=made.name)


def _rounds(result: Any) -> Rounds:
    return [dict(zip(one.filled_positions, one.filled_ids, strict=True)) for one in result.trace]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", PLANS)
def test_every_round_fills_what_pytorch_fills_over_the_same_cache(name: str, batch: int, place: Path) -> None:
    plan = PLANS[name]
    with _generator(place, plan, batch) as generator:
        widths = generator.build.manifest.shapes.roles["denoiser"].widths
        found = generator.generate(PROMPTS, max_new_tokens=COUNT, trace=True) + generator.generate(INFILLED, trace=True)
    given = [*([*prompt, *[MASK] * COUNT] for prompt in PROMPTS), *INFILLED]
    differs = False
    for text, result in zip(given, found, strict=True):
        logits = KeptLogits(text, plan)
        expected = unmask(logits, text, plan)
        assert _rounds(result) == expected and not result.lossless
        differs = differs or expected != unmask(llama_logits, text, plan)
        if batch == 1:
            assert [one.width for one in result.trace] == [min(w for w in widths if w >= n) for n in logits.counts]
    assert differs  # from the text without a cache


def test_rounds_of_a_dual_cache_run_at_the_width_of_a_block(place: Path) -> None:
    with _generator(place, PLANS["dual-shift"], 1) as generator:
        result = generator.generate(PROMPTS[2], max_new_tokens=COUNT, trace=True)
    assert [one.width for one in result.trace].count(6) >= len(result.trace) - 3  # all but the first of each block


def test_texts_that_begin_later_share_rounds_with_kept_ones(place: Path) -> None:
    plan = PLANS["delayed"]
    with _generator(place, plan, 4) as generator:
        stream = generator.stream(PROMPTS[2], max_new_tokens=COUNT)
        other = generator.generate(PROMPTS[0], max_new_tokens=COUNT, trace=True)
        first = [token for chunk in stream for token in chunk.token_ids]
    for prompt, tokens in ((PROMPTS[2], first), (PROMPTS[0], other.token_ids)):
        text = [*prompt, *[MASK] * COUNT]
        assert tokens == filled(text, unmask(KeptLogits(text, plan), text, plan))[len(prompt) :]


def test_check_runs_and_inspect_names_a_cache_that_approximates(place: Path) -> None:
    with _generator(place, PLANS["dual-shift"], 1) as generator:
        bundle = generator.bundle.path
    reports = check_bundle(bundle)
    assert len(reports) > 2 and all(report.passed for report in reports), [one.divergences for one in reports]
    shown = _shown("inspect", bundle)
    assert "dual cache" in shown and "approximates" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cache", "prefix"), "BertForMaskedLM has no cache"),
        (("--cache", "dual"), "--cache is dual, which needs --block-length"),
        (("--cache", "block"), "--strategy block-diffusion"),
        (("--cache-interval", "4"), "only --cache delayed has one"),
        (("--cache", "delayed", "--cache-interval", "1"), "must be from 2"),
    ],
)
def test_a_cache_that_makes_no_sense_is_refused_at_export(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    tiny_bert().save_pretrained(tmp_path / "model")
    shown = _shown("export", tmp_path / "model", "-o", tmp_path / "b", "--mask-token-id", MASK, *options, "--json")
    assert said in shown


def _shown(*arguments: object) -> str:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"}).stdout
