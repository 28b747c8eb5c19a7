"""The page about a text's rounds: everything that was drafted is on it, and it needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ptgc.report.rounds import rounds_page
from ptgc.runtime.results import DraftCount, GenerationResult, RoundTrace, Statistics
from tests.report.tags import Tags

WORDS = {1: "<a>", 2: " b", 3: "\n", 4: " d", 5: " e"}


def traced(*rounds: tuple[list[int], list[int], list[int], list[int]]) -> GenerationResult:
    """A text by its rounds: drafts, their parents, the accepted nodes, the tokens written."""
    trace = [
        RoundTrace(len(drafts) + 1, drafts, parents, path, 0, len(path), ids, 0.002, 0.0005, 0.0001, 0.0001, 0.003)
        for drafts, parents, path, ids in rounds
    ]
    ids = [token for one in trace for token in one.emitted_ids]
    counts = [DraftCount(1, 0, 2, 1), DraftCount(1, 1, 1, 1), DraftCount(2, 0, 2, 0)]
    statistics = Statistics(
        3, len(ids), len(trace), 0, None, 5, 2, counts, 2.0, 0.1, 0.1, 0.05, 0.006, 0.004, 0.001, 0.0002, 0.0002, 300, 1
    )
    return GenerationResult("", ids, "length", "eagle3", True, "b", None, statistics, trace)


def shown(result: GenerationResult) -> tuple[str, Tags]:
    words = [WORDS[token] for token in result.token_ids]
    html = rounds_page(result, words, WORDS.__getitem__, "<prompt>", ("suffix", "model"))
    return html, Tags(html)


def test_a_chain_shows_what_was_accepted_rejected_and_put_in_its_place() -> None:
    html, tags = shown(traced(([1, 2, 4], [0, 1, 2], [1, 2], [1, 2, 3])))
    assert tags.of("yes") == ["<a>", " b"]
    assert tags.of("no") == [" d"]
    assert tags.of("own") == ["\n", "\N{RETURN SYMBOL}"]  # in the text, and in the round
    assert tags.of("draft") == ["<a>", " b"]
    assert tags.of("prompt") == ["<prompt>"]
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\(""", html)


def test_a_tree_shows_every_branch() -> None:
    _, tags = shown(traced(([1, 2, 4, 5], [0, 0, 1, 2], [2, 4], [2, 5, 3]), ([], [], [], [1])))
    assert tags.of("yes") == [" b", " e"]
    assert tags.of("no") == ["<a>", " d"]
    assert tags.of("draft") == [" b", " e"]


@pytest.mark.parametrize("link", ["round-1", "round-2"])
def test_a_token_leads_to_its_round(link: str) -> None:
    html, _ = shown(traced(([1], [0], [1], [1, 2]), ([4], [0], [], [3])))
    assert f'href="#{link}"' in html
    assert f'id="{link}"' in html
    assert "round 1, draft of depth 1 by suffix" in html
    assert html.index("50% of 2") < html.index("100% of 1")


def test_drafts_that_were_made_ahead_are_told() -> None:
    result = traced(([1], [0], [1], [1, 2]), ([4], [0], [], [3]))
    result.trace[0] = replace(result.trace[0], is_ahead=True)
    counted = replace(result.statistics, ahead_tokens=4, ahead_used_tokens=1)
    html, _ = shown(replace(result, statistics=counted))
    assert "round 1, draft of depth 1 by suffix, made ahead" in html
    assert html.count("made ahead") == 3  # in the token's hint, in the round, and in the numbers
    assert "1 of 4" in html
    assert "made ahead" not in shown(traced(([1], [0], [1], [1, 2])))[0]
