"""The page about a canvas: which round filled which position, and how sure the model was."""

from __future__ import annotations

import re

from ptgc.report.canvas import canvas_page
from ptgc.runtime.results import GenerationResult, RoundTrace, Statistics
from tests.report.tags import Tags

WORDS = {1: "<a>", 2: " b", 3: "\n", 4: " d"}
STATISTICS = Statistics(2, 4, 2, 2, None, 0, 0, [], 2.0, 0.1, 0.1, 0.05, 0.006, 0.004, 0.0, 0.0, 0.0, 300, 1)


def _filled(positions: list[int], ids: list[int], confidences: list[float]) -> RoundTrace:
    times = (0.002, 0.0, 0.0, 0.0, 0.003)
    return RoundTrace(6, [], [], [], 0, 0, [], *times, positions, ids, confidences)


def _page(*trace: RoundTrace) -> str:
    result = GenerationResult("", [1, 2, 3, 4], "length", "masked-diffusion", False, "b", None, STATISTICS, [*trace])
    return canvas_page(result, [WORDS[token] for token in result.token_ids], WORDS.__getitem__, "<prompt>")


def test_every_token_names_the_round_that_filled_it() -> None:
    html = _page(_filled([3, 5], [2, 4], [0.9, 0.25]), _filled([2], [1], [0.5]))
    tags = Tags(html)
    assert tags.of("prompt") == ["<prompt>", "\n"], "position 4 was given"
    assert tags.of("draft") == ["<a>", " b", " d"]
    assert re.findall(r'href="#(round-\d)" title="([^"]*)"', html) == [
        ("round-2", "round 2 of 2, confidence 0.50"),
        ("round-1", "round 1 of 2, confidence 0.90"),
        ("round-1", "round 1 of 2, confidence 0.25"),
    ]
    assert re.findall(r'<rect x="(\d+)" y="(\d+)"', html) == [("6", "0"), ("18", "0"), ("0", "10")]
    assert tags.of("yes") == [" b", " d", "<a>"]
    assert "http" not in html


def test_a_text_without_rounds_is_a_page_too() -> None:
    assert Tags(_page()).of("prompt")[0] == "<prompt>"
