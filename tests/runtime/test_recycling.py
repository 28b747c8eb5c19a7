"""Token recycling: by the public commands, round by round as the paper's loop drafts, and what cannot be exported."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from ptgc.errors import ExportError, UsageError
from ptgc.exporters import export
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.choice import possible_choices
from ptgc.spec.strategies.recycling import DEFAULT_TREE, recycling
from ptgc.spec.tree import TreeSpec
from tests.models import greedy, prompt, tiny_model
from tests.recycling import Recycling
from tests.untrained import command, exported, nearly_bigrams

NEW_TOKENS = 32
IDS = prompt(30)


@cache
def recycled(place: Path) -> Path:
    return exported(place / "recycling", nearly_bigrams(), "recycling")


def test_every_round_drafts_what_the_paper_says(place: Path) -> None:
    loop = Recycling(nearly_bigrams(), DEFAULT_TREE, 8)
    tried, accepted = [0] * 3, [0] * 3  # by depth
    with Generator(recycled(place), draft_length="fixed") as generator:
        for ids in (IDS, IDS, IDS[6:]):  # known tokens, the last time in other contexts
            text, read = ids, len(ids)
            for one in generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True).trace:
                left = len(ids) + NEW_TOKENS - len(text)
                assert one.drafted_ids == loop.drafts(text, min(DEFAULT_TREE.num_nodes - 1, left - 1))
                for depth in range(3):
                    above = one.emitted_ids[:depth]
                    tried[depth] += any(path[:-1] == above for path in loop.paths) and one.accepted >= depth
                    accepted[depth] += one.accepted > depth
                loop.observe(text, read, one.emitted_ids)
                text, read = text + one.emitted_ids, 1
            assert text[len(ids) :] == greedy(nearly_bigrams(), ids, NEW_TOKENS)
    assert 0.3 < sum(accepted) / sum(tried) < 0.9
    assert all(0 < kept < count for kept, count in zip(accepted, tried, strict=True))


def test_the_public_commands_know_it(place: Path) -> None:
    bundle = recycled(place)
    manifest = open_bundle(bundle).manifest
    assert manifest.plan == recycling()
    assert manifest.provenance["arguments"] == {"strategy": "recycling", "num_candidates": 8}
    prompts = ("--prompt-ids", ",".join(map(str, IDS)), "--max-new-tokens", 12, "--json")
    written, plain = (json.loads(command("run", bundle, *prompts, *kind)) for kind in ((), ("--plain",)))
    assert (written["strategy"], written["lossless"]) == ("recycling", True)
    assert written["token_ids"] == plain["token_ids"]
    assert all(stage["passed"] for stage in json.loads(command("check", bundle, "--json"))["stages"])
    assert "recycling" in command("inspect", bundle)


def test_a_tree_that_cannot_be_filled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--num-candidates is 4; a node of the default tree has 7 children"):
        possible_choices("recycling", {"num_candidates": 4})
    with pytest.raises(UsageError) as caught:
        possible_choices("recycling", {"num_candidates": 2, "tree": "3,1"})
    assert "--num-candidates is 2; a node of --tree has 3 children" in caught.value.message
    with pytest.raises(UsageError, match="--num-candidates is 65; it must be from 2 to 64"):
        possible_choices("recycling", {"num_candidates": 65})
    plan = recycling(2, TreeSpec.branching(3))
    with pytest.raises(ExportError, match="num_candidates is 2; a node of tree has 3 children"):
        export({"target": tiny_model("llama")}, plan, tmp_path / "bundle")
