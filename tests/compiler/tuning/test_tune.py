"""Choosing build, threads and draft tokens."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.tuning import tune as module
from ptgc.compiler.tuning.tune import TuneOptions, tune
from ptgc.errors import BuildError, BundleError, UsageError
from ptgc.exporters import export
from ptgc.runtime import Generator
from ptgc.runtime.costs import CostCurve, RoundCost
from ptgc.runtime.tuning import Tuning, read_tuning, write_tuning
from ptgc.spec.bundle import Build, open_bundle
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.tree import TreeSpec
from tests.bundles import tiny_bundle
from tests.models import greedy, prompt, tiny_model
from tests.runtime.test_draft_model import drafter

PLAIN = {"float32": 4.0, "int8": 2.0, "int4": 1.0}


@pytest.fixture
def bundle(place: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(tiny_bundle(place, "llama"), tmp_path / "bundle"))
    shutil.rmtree(copy / "builds", ignore_errors=True)
    for precision in ("float32", "int8"):
        build(copy, BuildOptions(precision=precision, max_length=128, stage=Stage.PREPARE))
    return copy


@pytest.fixture
def options(tmp_path: Path) -> TuneOptions:
    path = tmp_path / "prompts.jsonl"
    lines = [{"id": str(number), "token_ids": prompt(12) * 3} for number in range(2)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return TuneOptions(prompts=(str(path),), max_new_tokens=16, threads=(2, 1), max_divergence=100)


@pytest.fixture(autouse=True)
def growth(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Cost of a further row, as a share of a round; rounds of an int8 build take half as long, with 1 thread twice.

    Also a drafter's rounds, as a share of the target's.
    """
    settings = {"row": 0.01, "drafter": 1.0}

    def measured(made: Build, threads: int, _: object, _drafter: str | None = None) -> CostCurve:
        def rounds(precision: str, share: float = 1.0) -> dict[int, RoundCost]:
            costs = {
                w: share * PLAIN[precision] / threads * (1 + settings["row"] * w)
                for w in made.manifest.shapes.roles["target"].widths
            }
            return {width: RoundCost(cost, cost, cost, 1) for width, cost in costs.items()}

        drafter = made.manifest.precision.get("drafter")
        return CostCurve(
            threads,
            64,
            rounds(made.manifest.precision["target"]),
            rounds(drafter, settings["drafter"]) if drafter else {},
        )

    monkeypatch.setattr(module, "measure_costs", measured)
    return settings


def test_the_fastest_build_and_threads_are_chosen_and_run_takes_them(bundle: Path, options: TuneOptions) -> None:
    tuned = tune(bundle, options)
    assert [(way.build.manifest.precision["target"], way.num_threads) for way in tuned.ways] == [
        ("float32", 2),
        ("float32", 1),
        ("int8", 2),
        ("int8", 1),
    ]
    assert tuned.chosen.build.manifest.precision == {"target": "int8"}
    assert tuned.chosen.num_threads == 2
    assert read_tuning(tuned.chosen.build, open_bundle(bundle).manifest.plan) == tuned.tuning
    assert tuned.tuning.num_draft_tokens == tuned.chosen.num_draft_tokens
    assert tuned.chosen.seconds <= tuned.chosen.plain_seconds
    assert tuned.measured_speedup > 0


def test_drafts_that_cost_too_much_are_not_made(bundle: Path, options: TuneOptions, growth: dict[str, float]) -> None:
    growth["row"] = 100.0
    tuned = tune(bundle, options)
    assert {way.num_draft_tokens for way in tuned.ways} == {0}
    assert tuned.chosen.seconds == pytest.approx(tuned.chosen.plain_seconds)
    with Generator(bundle, build=tuned.chosen.build.manifest.id) as generator:
        statistics = generator.generate(prompt(12) * 3, max_new_tokens=8).statistics
    assert statistics.plain_rounds == statistics.rounds > 0


def test_what_has_lost_too_much_is_shown_and_not_chosen(bundle: Path, options: TuneOptions) -> None:
    tuned = tune(bundle, replace(options, max_divergence=1e-9))
    assert {way.build.manifest.precision["target"] for way in tuned.ways} == {"float32", "int8"}
    assert tuned.chosen.build.manifest.precision == {"target": "float32"}
    alone = tune(bundle, replace(options, max_divergence=1e-9, builds=("onnxruntime-cpu-int8-l128",)))
    assert alone.chosen.build.manifest.precision == {"target": "int8"}
    build(bundle, BuildOptions(precision="int4", max_length=128, stage=Stage.PREPARE))
    names = ("onnxruntime-cpu-int8-l128", "onnxruntime-cpu-int4-l128")
    with pytest.raises(BuildError, match=r"lost more than 1e-09 nats a token: onnxruntime-cpu-int8-l128 0\."):
        tune(bundle, replace(options, max_divergence=1e-9, builds=names))


def test_precisions_of_two_builds_are_named_where_they_would_be_faster(tmp_path: Path, options: TuneOptions) -> None:
    pair = export({"target": tiny_model("llama"), "drafter": tiny_model("llama")}, draft_model(3), tmp_path / "pair")
    for precision in ("target=int8,drafter=float32", "target=float32,drafter=int4"):
        build(pair, BuildOptions(precision=precision, max_length=128, stage=Stage.PREPARE))
    tuned = tune(pair, options)
    assert tuned.chosen.build.manifest.precision["target"] == "int8"
    assert tuned.suggestion == "target=int8,drafter=int4"


def test_the_best_part_of_the_plans_tree_is_chosen_and_run_takes_it(
    tmp_path: Path, options: TuneOptions, growth: dict[str, float]
) -> None:
    growth |= {"row": 0.02, "drafter": 0.05}
    plan = draft_model(tree=TreeSpec.branching(3, 2, 2))
    pair = export({"target": tiny_model("llama"), "drafter": drafter()}, plan, tmp_path / "pair")
    build(pair, BuildOptions(precision="float32", max_length=128, stage=Stage.PREPARE))
    tuned = tune(pair, replace(options, max_new_tokens=48))
    best = min(tuned.ways, key=lambda way: way.seconds).tree
    assert best is not None and 0 < len(best.gains) < 21
    tree = tuned.tuning.tree
    assert tree is not None and None not in tree.nodes_in(plan.tree)
    assert tuned.tuning.gains == tuple(sorted(tuned.tuning.gains, reverse=True))
    assert read_tuning(tuned.chosen.build, plan) == tuned.tuning
    assert 1 < tuned.tokens_per_round <= 1 + max(tree.depths)
    ids = prompt(12) * 3
    with Generator(pair, draft_length="fixed") as generator:
        result = generator.generate(ids, max_new_tokens=48, trace=True)
    assert result.token_ids == greedy(tiny_model("llama"), ids, 48)
    drafted = [TreeSpec((-1, *one.parents)) for one in result.trace if one.drafted_ids]
    assert max(one.num_nodes for one in drafted) == tree.num_nodes
    assert all(None not in one.nodes_in(tree) for one in drafted)
    with Generator(pair, draft_length="fixed", num_draft_tokens=21) as generator:  # what is asked for is not as tuned
        whole = generator.generate(ids, max_new_tokens=48, trace=True)
    assert max(len(one.drafted_ids) for one in whole.trace) == 21

    shown = CliRunner().invoke(app, ["inspect", str(pair)]).stdout
    assert f"{len(tuned.tuning.gains)} drafts, {1 + sum(tuned.tuning.gains):.2f} tokens a round expected" in shown
    assert f"\n1.00 - {tuned.tuning.gains[0]:.2f}" in shown
    (path,) = (tuned.chosen.build.path / "measured").glob("*-tuning.json")
    documents = {
        "tree has node 4, which the plan's tree lacks": {"tree": [-1, 0, 0, 0, 0], "gains": [0.5] * 4},
        "node 1 has parent 2; a parent must come before its children": {"tree": [-1, 2, 1], "gains": [0.5] * 2},
        "tree.parents has 5000 entries": {"tree": [-1] * 5000},
    }
    for problem, change in documents.items():
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        shown = CliRunner().invoke(app, ["inspect", str(pair)]).stdout
        assert "is not used: " in shown and problem in shown


def test_tuning_of_a_build_that_was_replaced_is_not_used(bundle: Path, options: TuneOptions) -> None:
    name = tune(bundle, options).chosen.build.manifest.id
    build(bundle, BuildOptions(precision="int8", max_length=128, stage=Stage.PREPARE, replace=True))
    opened = open_bundle(bundle)
    assert read_tuning(opened.build(name), opened.manifest.plan) is None


def test_more_drafts_than_the_plan_has_are_never_tuned(bundle: Path) -> None:
    made = open_bundle(bundle).build("onnxruntime-cpu-int8-l128")
    write_tuning(made, Tuning(1, 99, (), {}))
    with Generator(bundle, build=made.manifest.id) as generator:
        assert generator.generate(prompt(8), max_new_tokens=4).token_ids


def test_bad_requests_are_refused(bundle: Path, options: TuneOptions, place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no prompts 'nowhere'"):
        tune(bundle, replace(options, prompts=("nowhere",)))
    with pytest.raises(BundleError, match="no build 'nothing'"):
        tune(bundle, replace(options, builds=("nothing",)))
    with pytest.raises(BuildError, match=r"cannot be tuned: .*-l128"):
        tune(bundle, replace(options, max_new_tokens=500))
    build(bundle, BuildOptions(precision="int8", max_length=128, batch_size=2, stage=Stage.PREPARE))
    with pytest.raises(BuildError, match="cannot be tuned: onnxruntime-cpu-int8-l128-b2"):
        tune(bundle, replace(options, builds=("onnxruntime-cpu-int8-l128-b2",)))
