"""Jacobi decoding: by the public commands, and round by round as the paper's loop guesses."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.jacobi import jacobi
from tests.jacobi import Jacobi
from tests.models import greedy, prompt
from tests.untrained import command, exported, mostly_positions

COUNT = 4
NEW_TOKENS = 40


@cache
def guessing(place: Path) -> Path:
    return exported(place / "jacobi", mostly_positions(), "jacobi", "--num-draft-tokens", COUNT)


@pytest.mark.parametrize("length", [5, 30])
def test_every_round_drafts_what_the_paper_says(place: Path, length: int) -> None:
    loop = Jacobi(mostly_positions(), COUNT)
    ids = text = prompt(length)
    tried, accepted = [0] * COUNT, [0] * COUNT  # by depth
    with Generator(guessing(place), draft_length="fixed") as generator:
        for one in generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True).trace:
            drafts = loop.drafts(text, length + NEW_TOKENS - len(text) - 1)
            assert one.drafted_ids == drafts
            loop.observe(text, drafts, one.emitted_ids)
            for depth in range(len(drafts)):
                tried[depth] += one.accepted >= depth
                accepted[depth] += one.accepted > depth
            text = text + one.emitted_ids
    assert text[length:] == greedy(mostly_positions(), ids, NEW_TOKENS)
    assert 0.3 < sum(accepted) / sum(tried) < 0.9
    assert all(0 < kept <= count for kept, count in zip(accepted, tried, strict=True))


def test_guesses_are_corrected_while_sampling(place: Path) -> None:
    """They are the likeliest tokens, not the sampled ones: some are accepted, and the text is the same."""
    ids = [prompt(length) for length in (5, 30)]
    sampling = {"max_new_tokens": NEW_TOKENS, "temperature": 0.5, "seed": 7}
    with Generator(guessing(place), draft_length="fixed") as generator:
        drafted, plain = (generator.generate(ids, plain=kind, **sampling) for kind in (False, True))
    assert [one.token_ids for one in drafted] == [one.token_ids for one in plain]
    assert sum(one.statistics.accepted_tokens for one in drafted) > 0


def test_a_rewound_and_a_forked_text_go_on(place: Path) -> None:
    ids = prompt(5)
    expected = greedy(mostly_positions(), ids, NEW_TOKENS)
    with Generator(guessing(place), draft_length="fixed") as generator:
        session = generator.session()
        session.append(ids)
        assert session.generate(max_new_tokens=16).token_ids == expected[:16]
        session.rewind(5)
        assert session.generate(max_new_tokens=16).token_ids == expected[11:27]


def test_the_public_commands_know_it(place: Path) -> None:
    bundle = guessing(place)
    assert open_bundle(bundle).manifest.plan == jacobi(COUNT)
    prompts = ("--prompt-ids", ",".join(map(str, prompt(9))), "--max-new-tokens", 12, "--json")
    written, plain = (json.loads(command("run", bundle, *prompts, *kind)) for kind in ((), ("--plain",)))
    assert (written["strategy"], written["lossless"]) == ("jacobi", True)
    assert written["token_ids"] == plain["token_ids"]
    assert all(stage["passed"] for stage in json.loads(command("check", bundle, "--json"))["stages"])
    assert "jacobi" in command("inspect", bundle)
