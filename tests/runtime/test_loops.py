"""Every loop except the speculative one, run by the runtime, against a few lines of PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ptgc.compiler.checking.check import check_bundle
from ptgc.errors import CapacityError, UsageError
from ptgc.exporters.references.original_roles import translate
from ptgc.runtime import Generator
from ptgc.spec.canvas import CanvasCache, CanvasPlan, PolicyPlan
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.ngram import ngram
from ptgc.spec.strategies.recycling import recycling
from ptgc.spec.tree import TreeSpec
from tests.block_diffusion import BLOCK_DIFFUSION, diffuse_blocks, tiny_block_diffusion
from tests.loops import INSERTION, LEVENSHTEIN, SOURCE_EDITS, loop_build
from tests.originals import original_text
from tests.other_models import (
    tiny_bert,
    tiny_ctc,
    tiny_insertion,
    tiny_levenshtein,
    tiny_marian,
    tiny_source_editor,
)
from tests.unmasking import filled, llama_logits, unmask

MASK = 3
SOURCES = [[5, 9, 30, 31, 8, 7, 2, 11, 12], [6, 4], [39], [20, 21, 22, 23, 24]]


def _generator(place: Path, name: str, plan: DecodePlan, batch: int, precision: str = "float32") -> Generator:
    made = loop_build(place, name, plan, batch, precision)
    return Generator(made.parents[1], build=made.name)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "plan",
    [masked_diffusion(MASK, 4), masked_diffusion(MASK, 7, block_length=3), masked_diffusion(MASK, 8, threshold=0.2)],
    ids=["steps", "blocks", "threshold"],
)
def test_masked_positions_are_filled_as_pytorch_fills_them(batch: int, plan: DecodePlan, place: Path) -> None:
    infilled = [[5, MASK, 7, MASK, MASK, 30, MASK], [8, MASK, MASK, 14], [9, MASK, 11, 12, MASK]]
    prompts = [[9, 10, 11], [20]]
    with _generator(place, "bert", plan, batch) as generator:
        found = generator.generate(infilled, max_new_tokens=4)
        written = generator.generate(prompts, max_new_tokens=9)
    for text, result in zip(infilled, found, strict=True):
        expected = original_text({"denoiser": tiny_bert()}, plan, text)
        assert result.token_ids == expected.token_ids[text.index(MASK) :]
        assert result.statistics.rounds == expected.rounds
        assert result.finish_reason == "eos" and not result.lossless
    for prompt, result in zip(prompts, written, strict=True):
        expected = original_text({"denoiser": tiny_bert()}, plan, prompt + [MASK] * 9)
        assert result.token_ids == expected.token_ids[len(prompt) :]
        assert result.finish_reason == "length"


SHIFTED = replace(masked_diffusion(MASK, 1), canvas=CanvasPlan(MASK, 6, 4, PolicyPlan(threshold=0.3), shift=True))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "plan",
    [masked_diffusion(MASK, 5), masked_diffusion(MASK, 8, threshold=0.2, block_length=3), SHIFTED],
    ids=["steps", "threshold", "shift"],
)
def test_a_language_model_that_sees_both_ways_fills_as_pytorch_does(batch: int, plan: DecodePlan, place: Path) -> None:
    infilled = [
        [MASK, MASK, 7, MASK],
        [5, MASK, 7, MASK, MASK, 30, MASK],
        [8, MASK, MASK, 14],
        [*range(4, 40), MASK, 9, MASK, MASK],
    ]
    prompts = [[9, 10, 11], [20], list(range(4, 29))]
    with _generator(place, "llama", plan, batch) as generator:
        found = generator.generate(infilled, max_new_tokens=4)
        written = generator.generate(prompts, max_new_tokens=9)
    assert plan.canvas is not None
    for text, result in zip(infilled, found, strict=True):
        rounds = unmask(llama_logits, text, plan.canvas)
        assert result.token_ids == filled(text, rounds)[text.index(MASK) :]
        assert result.statistics.rounds == len(rounds)
    for prompt, result in zip(prompts, written, strict=True):
        given = prompt + [MASK] * 9
        assert result.token_ids == filled(given, unmask(llama_logits, given, plan.canvas))[len(prompt) :]


BLOCKS = [
    BLOCK_DIFFUSION,
    replace(BLOCK_DIFFUSION, canvas=CanvasPlan(MASK, 9, 3, PolicyPlan(threshold=0.3), CanvasCache.BLOCK)),
]


def _diffused(prompt: list[int], count: int, plan: DecodePlan) -> list[int]:
    assert plan.canvas is not None
    return diffuse_blocks(prompt, count, plan.canvas)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("plan", BLOCKS, ids=["steps", "threshold"])
def test_blocks_over_a_cache_are_what_pytorch_writes_without(batch: int, plan: DecodePlan, place: Path) -> None:
    prompts = [[5, 9, 30, 31, 8, 7], [6] * 8, [1, 2, 4], [20], list(range(4, 29))]
    infilled = [[5, MASK, 7, MASK, MASK, 30, MASK], [*range(4, 14), MASK, 14, 15, *[MASK] * 5, 9, 9, 9, 9, MASK, 8]]
    with _generator(place, "block-diffusion", plan, batch) as generator:
        written = generator.generate(prompts, max_new_tokens=13)
        chunks = list(generator.stream(prompts[0], max_new_tokens=13))
        ended = generator.generate(prompts[0], max_new_tokens=13, stop_token_ids=[written[0].token_ids[7]])
        found = generator.generate(infilled)
    expected = [_diffused(prompt, 13, plan) for prompt in prompts]
    assert [result.token_ids for result in written] == expected
    assert [token for chunk in chunks for token in chunk.token_ids] == expected[0]
    assert len(chunks) > 2  # block by block
    end = expected[0].index(expected[0][7]) + 1
    assert ended.token_ids == expected[0][:end] and ended.finish_reason == "stop"
    for text, result in zip(infilled, found, strict=True):
        whole = original_text({"denoiser": tiny_block_diffusion()}, plan, text)
        assert result.token_ids == whole.token_ids[text.index(MASK) :]
        assert result.statistics.rounds == whole.rounds and result.finish_reason == "eos"


def test_sessions_over_a_cache_of_blocks_go_on_rewind_and_fork(place: Path) -> None:
    prompt, plan = [5, 9, 30, 31, 8, 7], BLOCK_DIFFUSION
    with _generator(place, "block-diffusion", plan, 3) as generator, generator.session() as session:
        session.append(prompt)
        text = prompt + session.generate(max_new_tokens=9).token_ids
        assert text == prompt + _diffused(prompt, 9, plan)
        with session.fork() as other:
            assert other.generate(max_new_tokens=6).token_ids == _diffused(text, 6, plan)
            assert session.generate(max_new_tokens=3).token_ids == _diffused(text, 3, plan)
            session.rewind(10)
            text = [*text[:-7], 11, 12]
            session.append([11, 12])
            assert session.generate(max_new_tokens=7).token_ids == _diffused(text, 7, plan)
            other.rewind(20)
            other.append([40])
            assert other.generate(max_new_tokens=5).token_ids == _diffused([prompt[0], 40], 5, plan)


def test_check_runs_a_bundle_with_a_cache_of_blocks(place: Path) -> None:
    for batch in (1, 3):
        made = loop_build(place, "block-diffusion", BLOCK_DIFFUSION, batch, "float32")
    reports = check_bundle(made.parents[1])
    assert len(reports) > 2 and all(report.passed for report in reports), [one.divergences for one in reports]


@pytest.mark.parametrize("batch", [1, 3])
def test_one_run_writes_what_pytorch_reads_off_its_rows(batch: int, place: Path) -> None:
    plan = ctc(blank_token_id=0, upsampling=2)
    with _generator(place, "ctc", plan, batch) as generator:
        found = generator.generate(SOURCES, max_new_tokens=30)
    expected = [original_text(tiny_ctc(2), plan, source).token_ids for source in SOURCES]
    assert [result.token_ids for result in found] == expected
    assert all(result.statistics.rounds == 1 for result in found) and any(expected)


@pytest.mark.parametrize("batch", [1, 3])
def test_texts_are_edited_until_pytorch_would_stop(batch: int, place: Path) -> None:
    with _generator(place, "levenshtein", LEVENSHTEIN, batch) as generator:
        longest = generator.build.manifest.shapes.roles["filler"].canvas_lengths[-1]
        found = generator.generate(SOURCES, max_new_tokens=longest - 1)
    for source, result in zip(SOURCES, found, strict=True):
        expected = original_text(tiny_levenshtein(), LEVENSHTEIN, source, longest)
        assert result.token_ids == expected.token_ids
        assert result.statistics.rounds == expected.rounds


@torch.no_grad()
def _inserted(source: list[int], longest: int) -> tuple[list[int], int]:
    """Parallel decoding of an insertion transformer (Stern et al., arXiv 1902.03249, section 4.2)."""
    modules, text = tiny_insertion(), [1, 2]
    mask = torch.ones(1, len(source), dtype=torch.bool)
    rows = modules["encoder"](torch.tensor([source]), mask)
    for number in range(1, 9):
        logits = modules["token_inserter"](torch.tensor([text]), torch.tensor([len(text)]), rows, mask)[0]
        logits[:, :3] = -torch.inf  # begin, end and padding
        chosen = [[] if token == 4 else [token] for token in logits.argmax(-1).tolist()]
        before, room, text = text, longest - len(text), []
        for token, new in zip(before, chosen, strict=True):
            text += [token] + (new[:room] if token != 2 else [])
            room -= len(new)
        if text == before:
            return text[1:-1], number
    return text[1:-1], 8


@pytest.mark.parametrize("batch", [1, 3])
def test_tokens_are_inserted_everywhere_at_once_until_pytorch_inserts_none(batch: int, place: Path) -> None:
    with _generator(place, "insertion", INSERTION, batch) as generator:
        found = generator.generate(SOURCES, max_new_tokens=38)
        chunks = list(generator.stream(SOURCES[0], max_new_tokens=38))
    expected = [_inserted(source, 40) for source in SOURCES]
    assert [(result.token_ids, result.statistics.rounds) for result in found] == expected
    assert all(rounds < 8 and text for text, rounds in expected)
    assert [token for chunk in chunks for token in chunk.token_ids] == expected[0][0]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_prompt_is_edited_where_nothing_else_reads_it(batch: int, place: Path) -> None:
    prompts = [[5, 9, 30, 31, 8], [6, 7, 8, 9, 10, 11, 12, 13, 14], [20]]
    with _generator(place, "source-editor", SOURCE_EDITS, batch) as generator:
        found = generator.generate(prompts, max_new_tokens=38)
        assert generator.generate([list(range(3, 32))])[0].finish_reason == "eos"  # longer than what is left
        with generator.session() as session:
            session.append(prompts[0])
            assert session.generate().token_ids == found[0].token_ids
        with pytest.raises(CapacityError, match="39 tokens"):
            generator.generate([5] * 39, max_new_tokens=1)
    expected = [original_text(tiny_source_editor(), SOURCE_EDITS, prompt, 40) for prompt in prompts]
    assert [result.token_ids for result in found] == [text.token_ids for text in expected]
    assert [result.statistics.rounds for result in found] == [text.rounds for text in expected]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "plan",
    [autoregressive(), ngram(5, 3, 1), recycling(4, TreeSpec.branching(3, 1))],
    ids=["autoregressive", "ngram", "recycling"],
)
def test_an_encoder_decoder_writes_pytorchs_text(batch: int, plan: DecodePlan, place: Path) -> None:
    with _generator(place, "marian", plan, batch) as generator:
        found = generator.generate(SOURCES, max_new_tokens=24)
    for source, result in zip(SOURCES, found, strict=True):
        assert result.token_ids == translate(tiny_marian(), source, 24)[0]


def test_sessions_of_an_encoder_decoder_fork_and_go_on(place: Path) -> None:
    expected = translate(tiny_marian(), SOURCES[0], 24)[0]
    with _generator(place, "marian", ngram(5, 3, 1), 3) as generator, generator.session() as session:
        session.append(SOURCES[0])
        first = session.generate(max_new_tokens=10).token_ids
        with session.fork() as other:
            assert first + other.generate(max_new_tokens=14).token_ids == expected
        assert first + session.generate(max_new_tokens=14).token_ids == expected


@pytest.mark.parametrize(("name", "plan"), [("bert", masked_diffusion(MASK, 4)), ("levenshtein", LEVENSHTEIN)])
def test_quantised_loops_write_as_much(name: str, plan: DecodePlan, place: Path) -> None:
    with _generator(place, name, plan, 1, "int8") as generator:
        result = generator.generate(SOURCES[0][:3], max_new_tokens=6)
    assert 0 < len(result.token_ids) <= 6


def test_what_a_loop_does_not_have_is_refused(place: Path) -> None:
    with _generator(place, "bert", masked_diffusion(MASK, 4), 1) as generator:
        with pytest.raises(UsageError, match="takes the likeliest tokens"):
            generator.generate([5, 6], max_new_tokens=3, temperature=1.0)
        with pytest.raises(CapacityError):
            generator.generate([5] * 30, max_new_tokens=30)
    with _generator(place, "ctc", ctc(0, 2), 1) as generator, pytest.raises(CapacityError, match="encoder reads"):
        generator.generate([5] * 500, max_new_tokens=3)
