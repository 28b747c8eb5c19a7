"""Lookahead decoding: by the public commands, and round by round as the paper's loop looks ahead."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from ptgc.errors import UsageError
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.choice import possible_choices
from ptgc.spec.strategies.lookahead import lookahead, round_tree
from ptgc.spec.tree import TreeSpec
from tests.lookahead import Lookahead
from tests.models import greedy, prompt
from tests.untrained import command, exported, mostly_positions

SIZES = (4, 3, 2)
NEW_TOKENS = 48


@cache
def looking(place: Path) -> Path:
    options = ("--window-size", SIZES[0], "--ngram-size", SIZES[1], "--num-branches", SIZES[2])
    return exported(place / "lookahead", mostly_positions(), "lookahead", *options)


@pytest.mark.parametrize("length", [5, 30])
def test_every_round_runs_what_the_paper_says(place: Path, length: int) -> None:
    loop = Lookahead(mostly_positions(), *SIZES)
    most = lookahead(*SIZES).drafter.num_draft_tokens
    ids = text = prompt(length)
    tried, accepted = [0, 0], [0, 0]  # by depth
    with Generator(looking(place), draft_length="fixed") as generator:
        for one in generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True).trace:
            verified, run = loop.drafts(text, min(most, length + NEW_TOKENS - len(text) - 1))
            assert one.drafted_ids == [path[-1] for path in verified + run]
            for depth in range(2):
                above = one.emitted_ids[:depth]
                tried[depth] += any(path[:-1] == above for path in verified) and one.accepted >= depth
                accepted[depth] += one.accepted > depth
            assert one.emitted_ids[: one.accepted] in [[], *verified]
            if run:
                loop.observe(text)
            text = text + one.emitted_ids
    assert text[length:] == greedy(mostly_positions(), ids, NEW_TOKENS)
    assert 0.3 < sum(accepted) / sum(tried) < 0.9
    assert all(0 < kept < count for kept, count in zip(accepted, tried, strict=True))


def test_sampled_texts_are_those_of_plain_decoding(place: Path) -> None:
    ids = [prompt(length) for length in (5, 30)]
    sampling = {"max_new_tokens": NEW_TOKENS, "temperature": 0.5, "seed": 7}
    with Generator(looking(place), draft_length="fixed") as generator:
        drafted, plain = (generator.generate(ids, plain=kind, **sampling) for kind in (False, True))
    assert [one.token_ids for one in drafted] == [one.token_ids for one in plain]
    assert sum(one.statistics.accepted_tokens for one in drafted) > 0


def test_the_public_commands_know_it(place: Path) -> None:
    bundle = looking(place)
    assert open_bundle(bundle).manifest.plan == lookahead(*SIZES)
    prompts = ("--prompt-ids", ",".join(map(str, prompt(9))), "--max-new-tokens", 12, "--json")
    written, plain = (json.loads(command("run", bundle, *prompts, *kind)) for kind in ((), ("--plain",)))
    assert (written["strategy"], written["lossless"]) == ("lookahead", True)
    assert written["token_ids"] == plain["token_ids"]
    assert all(stage["passed"] for stage in json.loads(command("check", bundle, "--json"))["stages"])
    assert "lookahead" in command("inspect", bundle)


def test_its_tree_has_room_for_every_round() -> None:
    assert round_tree(3, 3, 1) == TreeSpec((-1, 0, 0, 0, 1, 2, 2, 5))
    assert round_tree(4, 3, 4).num_nodes == 2 * 4 + 2 * 4
    few_columns = round_tree(2, 6, 1)
    assert few_columns.num_nodes == 3 * 4 + 5
    assert list(few_columns.depths) == sorted(few_columns.depths)


def test_what_is_wrong_with_its_sizes_is_said() -> None:
    with pytest.raises(UsageError) as caught:
        possible_choices("lookahead", {"window_size": 1, "ngram_size": 17, "num_branches": 0})
    for said in ("--window-size is 1; it must be from 2 to 64", "--ngram-size is 17", "--num-branches is 0"):
        assert said in caught.value.message
