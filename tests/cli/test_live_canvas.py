"""The terminal shows a canvas while it is filled."""

from __future__ import annotations

import pytest
from rich.console import Console

from ptgc.cli import demo_canvas, live_canvas
from ptgc.cli.live_canvas import LiveCanvas, fill_live
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.exporters import export
from ptgc.runtime import Chunk, Generator
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from tests.other_models import tiny_bert, words

MASK = 3


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    bundle = tmp_path_factory.mktemp("canvas") / "bundle"
    tokenizer = words(40, pad_token="<pad>", bos_token="<s>", eos_token="</s>", mask_token="<mask>")
    export({"denoiser": tiny_bert()}, masked_diffusion(MASK, num_steps=4), bundle, tokenizer=tokenizer)
    build(bundle, BuildOptions(precision="float32", max_length=32))
    return Generator(bundle)


def test_masks_give_way_to_words(generator: Generator) -> None:
    codec = generator.codec
    assert codec is not None
    view = LiveCanvas(codec, [10, 11], MASK, 3)
    assert view.__rich__().plain == "w10 w11\N{LIGHT SHADE}\N{LIGHT SHADE}\N{LIGHT SHADE}"
    view.take(Chunk("", [], filled_positions=[3], filled_ids=[20]))
    shown = view.__rich__()
    assert shown.plain == "w10 w11\N{LIGHT SHADE} w20\N{LIGHT SHADE}"
    assert (" w20", "bold") in [(shown.plain[span.start : span.end], span.style) for span in shown.spans]
    assert LiveCanvas(codec, [10, MASK], MASK, 3).__rich__().plain == "w10\N{LIGHT SHADE}", "masks of the prompt's own"


def test_the_last_picture_is_the_whole_text(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = generator.codec
    assert codec is not None
    terminal = Console(force_terminal=True, record=True, width=200)
    monkeypatch.setattr(live_canvas, "notes", terminal)
    options = {"max_new_tokens": 6, "num_steps": 3}
    result = fill_live(generator, codec, "w10 w11", options)
    assert result.text == generator.generate("w10 w11", **options).text
    assert f"w10 w11 {result.text.strip()}" in terminal.export_text()


def test_the_demo_fills_one_canvas_step_by_step_and_by_thresholds(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Console(record=True, width=100)
    monkeypatch.setattr(demo_canvas, "results", shown)
    demo_canvas.fill_canvas(generator.bundle.path, generator.build.manifest.id, 6)
    text = shown.export_text()
    assert "one position a round" in text and "all above 0.6" in text
    rows = [line.split() for line in text.splitlines() if "one position a round" in line or "all above" in line]
    assert [
        row[row.index("round") + 2] for row in rows if "one" in row and "\N{BOX DRAWINGS LIGHT VERTICAL}" in row
    ] == ["6"]
