"""Every loop but the speculative one, run by the runtime, against a few lines of PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptgc.errors import CapacityError, UsageError
from ptgc.exporters.references.reference_loops import edit_text, fill_canvas, read_rows, translate
from ptgc.runtime import Generator
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.ngram import ngram
from tests.loops import LEVENSHTEIN, loop_build
from tests.other_models import tiny_bert, tiny_ctc, tiny_levenshtein, tiny_marian

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
    assert plan.canvas is not None
    with _generator(place, "bert", plan, batch) as generator:
        found = generator.generate(infilled, max_new_tokens=4)
        written = generator.generate(prompts, max_new_tokens=9)
    for text, result in zip(infilled, found, strict=True):
        expected, rounds = fill_canvas(tiny_bert(), text, plan.canvas)
        assert result.token_ids == expected[text.index(MASK) :]
        assert result.statistics.rounds == rounds
        assert result.finish_reason == "eos" and not result.lossless
    for prompt, result in zip(prompts, written, strict=True):
        expected, _ = fill_canvas(tiny_bert(), prompt + [MASK] * 9, plan.canvas)
        assert result.token_ids == expected[len(prompt) :]
        assert result.finish_reason == "length"


@pytest.mark.parametrize("batch", [1, 3])
def test_one_run_writes_what_pytorch_reads_off_its_rows(batch: int, place: Path) -> None:
    plan = ctc(blank_token_id=0, upsampling=2)
    assert plan.one_shot is not None
    modules = tiny_ctc(2)
    with _generator(place, "ctc", plan, batch) as generator:
        found = generator.generate(SOURCES, max_new_tokens=30)
    expected = [read_rows(modules["encoder"], modules["decoder"], source, plan.one_shot) for source in SOURCES]
    assert [result.token_ids for result in found] == expected
    assert all(result.statistics.rounds == 1 for result in found) and any(expected)


@pytest.mark.parametrize("batch", [1, 3])
def test_texts_are_edited_until_pytorch_would_stop(batch: int, place: Path) -> None:
    assert LEVENSHTEIN.edit is not None
    with _generator(place, "levenshtein", LEVENSHTEIN, batch) as generator:
        longest = next(iter(generator.build.manifest.shapes.roles.values())).canvas_lengths[-1]
        found = generator.generate(SOURCES, max_new_tokens=longest - 1)
    for source, result in zip(SOURCES, found, strict=True):
        expected = edit_text(tiny_levenshtein(), source, [1, 2], LEVENSHTEIN.edit, longest)
        assert result.token_ids == expected.ids[1:-1]
        assert result.statistics.rounds == expected.rounds


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("plan", [autoregressive(), ngram(5, 3, 1)], ids=["autoregressive", "ngram"])
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
