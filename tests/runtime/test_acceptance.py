"""Rules of acceptance on the runtime: lossy texts round by round, and how many drafts each rule accepts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.exporters import export
from ptgc.graphs.reference_loops import accepts
from ptgc.runtime import Generator
from ptgc.spec.acceptance import AcceptanceRule, RelaxedAcceptance, TypicalAcceptance
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.tree import TreeSpec
from tests.models import greedy, prompt, save, tiny_model
from tests.runtime.sampled_texts import Setting, count_texts
from tests.runtime.test_draft_model import drafter

NEW_TOKENS = 32
TREE = TreeSpec((-1, 0, 0, 1, 1, 2, 3))
PROMPTS = [prompt(length) for length in (1, 5, 40)]
PLANS = {
    "typical": draft_model(4).accepting(AcceptanceRule.TYPICAL, typical=TypicalAcceptance(0.05, 0.2)),
    "relaxed": draft_model(4).accepting(AcceptanceRule.RELAXED, relaxed=RelaxedAcceptance(3, 1.0)),
    "typical-tree": draft_model(tree=TREE).accepting(AcceptanceRule.TYPICAL),
}


@cache
def bundle(place: Path, name: str, batch: int) -> Path:
    path = export({"target": tiny_model("llama"), "drafter": drafter()}, PLANS[name], place / f"lossy-{name}-{batch}")
    build(path, BuildOptions(precision="float32", batch_size=batch, max_length=512, stage=Stage.PREPARE))
    return path


@torch.no_grad()
def logits_after(model: Any, text: Sequence[int]) -> Any:
    return model(torch.tensor([list(text)])).logits[0, -1].numpy()


def drafted(text: Sequence[int], tree: TreeSpec) -> list[list[int]]:
    """The path to each node of the tree that the drafter makes of its likeliest tokens."""
    paths: list[list[int]] = [[]]
    for parent, rank in list(zip(tree.parents, tree.ranks, strict=True))[1:]:
        row = logits_after(drafter(), [*text, *paths[parent]])
        paths.append([*paths[parent], int((-row).argsort(kind="stable")[rank])])
    return paths


def accepted(text: Sequence[int], plan: DecodePlan, paths: list[list[int]]) -> tuple[list[int], int]:
    """The longest path of drafts that the rule accepts, of equals the likeliest; and how many are not the best."""
    scores: dict[int, tuple[int, float, int]] = {0: (0, 0.0, 0)}
    for node, parent in list(enumerate(plan.tree.parents))[1:]:
        row, token = logits_after(tiny_model("llama"), [*text, *paths[parent]]), paths[node][-1]
        if parent in scores and accepts(plan, row, token):
            log_p = torch.log_softmax(torch.tensor(row), -1)[token]
            others = scores[parent][2] + int(int(row.argmax()) != token)
            scores[node] = (len(paths[node]), scores[parent][1] + float(log_p), others)
    best = max(scores, key=lambda node: scores[node][:2])
    return paths[best], scores[best][2]


@pytest.mark.parametrize(("name", "batch"), [("typical", 1), ("relaxed", 3), ("typical-tree", 1)])
def test_every_round_of_a_lossy_rule_accepts_what_the_numpy_rule_does(name: str, batch: int, place: Path) -> None:
    plan = PLANS[name]
    with Generator(bundle(place, name, batch), draft_length="fixed") as generator:
        results = generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS, trace=True)
    liberties = 0
    for ids, result in zip(PROMPTS, results, strict=True):
        assert (result.lossless, result.strategy) == (False, "draft-model")
        text = list(ids)
        for one in result.trace:
            if len(one.drafted_ids) == plan.tree.num_nodes - 1:
                paths = drafted(text, plan.tree)
                assert one.drafted_ids == [path[-1] for path in paths[1:]]
                path, others = accepted(text, plan, paths)
                liberties += others
                bonus = int(logits_after(tiny_model("llama"), [*text, *path]).argmax())
                assert one.emitted_ids == [*path, bonus]
            text += one.emitted_ids
        assert text[len(ids) :] == result.token_ids
    assert liberties > 0


def test_the_rule_can_be_changed_on_loading_and_the_result_says_so(place: Path) -> None:
    expected = [greedy(tiny_model("llama"), ids, NEW_TOKENS) for ids in PROMPTS]
    path = bundle(place, "typical", 1)
    for rule in ("match", "speculative", "block"):
        with Generator(path, draft_length="fixed", acceptance=rule) as generator:
            results = generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS)
        assert [one.token_ids for one in results] == expected
        assert all(one.lossless for one in results)
    with Generator(path, draft_length="fixed") as generator:
        plain = generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS, plain=True)
        lossy = generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS)
        warm, again = (generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS, temperature=0.9, seed=1) for _ in "ab")
    assert [one.token_ids for one in plain] == expected and all(one.lossless for one in plain)
    assert [one.token_ids for one in lossy] != expected and not any(one.lossless for one in lossy)
    assert [one.token_ids for one in warm] == [one.token_ids for one in again]


def test_check_judges_a_lossy_text_by_its_rule(place: Path) -> None:
    reports = {report.stage.rpartition(": ")[2]: report for report in check_bundle(bundle(place, "typical", 1))}
    judged = reports["engine, acceptance"]
    assert judged.passed and judged.kept < judged.tokens
    assert all(report.passed for report in reports.values())


def test_a_lossy_strategy_is_exported_by_the_command_and_marked(place: Path, tmp_path: Path) -> None:
    model = save(tiny_model("llama"), tmp_path / "model")
    path, run = tmp_path / "bundle", CliRunner()
    given = ["--strategy", "layer-skip", "--num-layers", "2", "--acceptance", "relaxed", "--relaxed-top-k", "4"]
    done = run.invoke(app, ["export", str(model), "-o", str(path), *given])
    assert done.exit_code == 0, done.output
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["guarantee"], manifest["lossless"]) == ("lossy", False)
    assert manifest["plan"]["acceptance"] == "relaxed"
    assert manifest["plan"]["relaxed"] == {"top_k": 4, "margin": 0.6}
    assert run.invoke(app, ["build", str(path), "--precision", "int8", "--max-length", "128"]).exit_code == 0
    assert "lossy" in run.invoke(app, ["inspect", str(path)]).output
    written = run.invoke(app, ["run", str(path), "--prompt-ids", "5,6,7", "--max-new-tokens", "24", "--json"])
    found = json.loads(written.stdout)
    assert (found["lossless"], len(found["token_ids"])) == (False, 24)
    checked = run.invoke(app, ["check", str(path)])
    assert checked.exit_code == 0, checked.output


def test_trees_and_blocks_accept_more_drafts(place: Path) -> None:
    per_text = {}
    for strategy, rule in (("draft-model", "speculative"), ("draft-model", "block"), ("tree", "speculative")):
        _, drafts = count_texts(place, Setting(strategy, rule, 1.3, batch=4), 3000)
        per_text[strategy, rule] = drafts.kept / 3000
    chain = per_text["draft-model", "speculative"]
    assert per_text["draft-model", "block"] > chain
    assert per_text["tree", "speculative"] > chain
