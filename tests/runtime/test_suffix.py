"""Drafts that continue repeated suffixes, and such drafts before those of a model, in real builds."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export
from ptgc.runtime import Generator
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.merged import MergedDrafter
from ptgc.spec.strategies.ngram import NgramDrafter
from ptgc.spec.strategies.suffix import SuffixDrafter, suffix
from ptgc.spec.tree import TreeSpec
from tests.models import greedy, prompt, save, tiny_model
from tests.runtime.test_draft_model import drafter

NEW_TOKENS = 64
LIMIT, PER_MATCH, PROBABILITY = 7, 2.0, 0.3


def continuation(text: list[int], limit: int, shortest: int, per_match: float, probability: float) -> list[int]:
    """What SuffixDecoding drafts (section 3), by looking at every place of the text."""

    def agreeing(end: int) -> int:
        length = 0
        while length <= end and text[end - length] == text[-1 - length]:
            length += 1
        return length

    lengths = [agreeing(end) for end in range(len(text) - 1)]
    longest = max(lengths, default=0)
    if longest < shortest:
        return []
    repeated = [end for end, length in enumerate(lengths) if length == longest]
    drafted: list[int] = []
    places, share = repeated, 1.0
    while len(drafted) + 1 <= min(limit, per_match * longest):
        places = [end for end in places if end + 1 < len(text)] or repeated
        following = [text[end + 1] for end in places]
        last = {token: place for place, token in enumerate(following)}
        token, most = following[-1], max(last, key=lambda one: (following.count(one), last[one]))
        if longest + len(drafted) < 3 and following.count(most) >= 2 * following.count(token):
            token = most
        share *= following.count(token) / len(following)
        if share < probability:
            break
        drafted.append(token)
        places = [end + 1 for end in places if text[end + 1] == token]
    return drafted


@cache
def built(place: Path, lookup: DrafterPlan | None) -> Path:
    """A bundle whose text drafts, alone or before a model."""
    target = {"target": tiny_model("llama")}
    if lookup is None:
        path = export(target, suffix(LIMIT, 1, PER_MATCH, PROBABILITY), place / "suffix")
    else:
        merged = MergedDrafter(LIMIT, drafters=(lookup, draft_model(3).drafter))
        plan = DecodePlan("merged", drafter=merged, tree=TreeSpec.chain(LIMIT))
        path = export(target | {"drafter": drafter()}, plan, place / f"{lookup.kind}-first")
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    return path


@pytest.mark.parametrize("length", [1, 5, 40])
def test_every_round_drafts_what_the_paper_says(place: Path, length: int) -> None:
    ids, rounds, accepted, drafted = prompt(length), 0, 0, 0
    with Generator(built(place, None), draft_length="fixed") as generator:
        result = generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True)
    assert result.token_ids == greedy(tiny_model("llama"), ids, NEW_TOKENS)
    for one in result.trace:
        left = NEW_TOKENS + length - len(ids) - 1
        if one.emitted_ids and left > 0 and len(ids) > length:
            assert one.drafted_ids == continuation(ids, min(LIMIT, left), 1, PER_MATCH, PROBABILITY)
            rounds, accepted = rounds + 1, accepted + one.accepted
            drafted += len(one.drafted_ids)
        ids = [*ids, *one.emitted_ids]
    assert rounds > 4
    assert 0 < accepted < drafted


@pytest.mark.parametrize("lookup", [NgramDrafter(LIMIT), SuffixDrafter(LIMIT)], ids=["ngram", "suffix"])
def test_a_model_drafts_where_nothing_is_found(place: Path, lookup: DrafterPlan) -> None:
    ids = prompt(40)
    with Generator(built(place, lookup), draft_length="fixed") as generator:
        result = generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True)
    assert result.token_ids == greedy(tiny_model("llama"), ids, NEW_TOKENS)
    parts = {part: [one for one in result.trace if one.drafted_ids and one.part == part] for part in (0, 1)}
    assert parts[0] and parts[1]
    assert max(len(one.drafted_ids) for one in parts[1]) == 3
    for one in result.trace:
        if one.drafted_ids:
            assert one.part == (0 if continuation(ids, 1, 1, 1, 0) else 1)
        ids = [*ids, *one.emitted_ids]


def run(*arguments: object) -> Any:
    """The result of a command that succeeds, from its JSON."""
    made = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert made.exit_code == 0, made.output
    return json.loads(made.stdout)


@pytest.mark.parametrize(
    ("strategy", "options", "kinds"),
    [
        ("suffix", ["--drafts-per-match", 2, "--min-probability", 0.3], ["suffix"]),
        ("layer-skip", ["--num-layers", 1, "--lookup", "suffix"], ["suffix", "layer-skip"]),
    ],
)
def test_the_public_commands(place: Path, tmp_path: Path, strategy: str, options: list[Any], kinds: list[str]) -> None:
    bundle, ids = tmp_path / "bundle", prompt(12) * 2
    run("export", checkpoint(place), "-o", bundle, "--strategy", strategy, *options)
    run("build", bundle, "--precision", "int8", "--max-length", 128)
    asked = ("--prompt-ids", ",".join(map(str, ids)), "--max-new-tokens", 24)
    drafted, plain = run("run", bundle, *asked), run("run", bundle, *asked, "--plain")
    assert drafted["token_ids"] == plain["token_ids"]
    assert (drafted["strategy"], drafted["lossless"]) == (strategy, True)
    assert all(stage["passed"] for stage in run("check", bundle)["stages"])
    manifest = run("inspect", bundle)["manifest"]
    drafter = manifest["plan"]["drafter"]
    assert [one["kind"] for one in drafter.get("drafters", [drafter])] == kinds
    assert {f"drafter-{kind}" for kind in kinds} <= set(manifest["features"])


@cache
def checkpoint(place: Path) -> Path:
    folder = place / "suffix-checkpoint"
    folder.mkdir()
    return save(tiny_model("llama"), folder)
