"""The table of strategies, including those from other packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ptgc.errors import ExportError, UsageError
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies import BUILT_IN, find_strategy, strategy_names
from ptgc.spec.strategies.base import CheckpointFacts
from ptgc.spec.strategies.choice import Choice, possible_choices
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.draft_model import DraftModelOptions
from ptgc.spec.strategies.heads import likely_tree
from ptgc.spec.strategies.levenshtein import levenshtein
from ptgc.spec.strategies.ngram import NgramOptions, ngram
from ptgc.spec.tree import TreeSpec
from tests.spec.strategies.packages import ECHO, install


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def plan_of(choice: Choice) -> DecodePlan:
    assert choice.strategy.plan is not None
    return choice.strategy.plan(choice.options, CheckpointFacts(mask_token_id=3, block_size=8))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_strategy_says_what_it_is(name: str) -> None:
    strategy = find_strategy(name)
    assert strategy.name == name
    assert strategy.summary.endswith(".")


def test_a_plan_has_the_name_loop_and_guarantee_of_its_strategy() -> None:
    plans = [ctc(0, 2), levenshtein(3, 0, 1, 2)]
    needed = {"draft-model": {"drafter": "x"}, "layer-skip": {"num_layers": 1}, "eagle3": {"drafter": "x"}}
    needed["eagle"] = needed["eagle3"]
    needed |= {name: {"heads": "x"} for name in ("medusa", "hydra", "mlp-speculator")}
    needed |= {"dflash": {"drafter": "x"}, "pard": {"drafter": "x"}}
    for name in sorted(set(BUILT_IN) - {plan.strategy for plan in plans}):
        (choice,) = possible_choices(name, needed.get(name))
        plans.append(plan_of(choice))
    assert {plan.strategy for plan in plans} == set(BUILT_IN)
    (several,) = possible_choices("mtp", None)
    assert several.strategy.plan is not None
    plan = several.strategy.plan(several.options, CheckpointFacts(num_layers=3))
    assert (plan.strategy, plan.drafter.kind, plan.drafter.num_draft_tokens) == ("mtp", "layers", 3)
    for plan in plans:
        strategy = find_strategy(plan.strategy)
        assert (plan.loop, plan.guarantee, plan.drafter.kind) == (
            strategy.loop,
            strategy.guarantee,
            strategy.drafter.kind,
        )


def test_an_object_of_options_names_its_strategy() -> None:
    (choice,) = possible_choices(None, NgramOptions(7, 4))
    assert plan_of(choice) == ngram(7, 4)
    (choice,) = possible_choices(None, DraftModelOptions("somewhere"))
    assert choice.strategy.name == "draft-model"
    with pytest.raises(UsageError, match="--num-draft-tokens is 64; it must be from 1 to 63"):
        possible_choices(None, NgramOptions(64))
    with pytest.raises(
        UsageError, match="Strategy 'ngram' takes no --drafter, --drafter-vocabulary, --lookup, --overlap, --acceptance"
    ):
        possible_choices("ngram", DraftModelOptions("somewhere"))
    with pytest.raises(UsageError, match="Path is no strategy's options"):
        possible_choices(None, type("Path", (), {"__dataclass_fields__": {}})())


def test_another_package_brings_a_strategy(site: Path) -> None:
    install(site, "echo-strategy", "echo", ECHO)
    assert strategy_names() == (*BUILT_IN, "echo")
    (choice,) = possible_choices("echo", {"most_copies": 3})
    assert plan_of(choice).drafter.num_draft_tokens == 3
    assert possible_choices(None, choice.options)[0].strategy.name == "echo"
    with pytest.raises(UsageError, match="takes no --num-steps; it has --most-copies"):
        possible_choices("echo", {"num_steps": 3})


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError: No module named"),
        ("raise RuntimeError('no licence')", "cannot be imported: RuntimeError: no licence"),
        ("STRATEGY = 3", "is a int, no ptgc.spec.strategies.base.Strategy"),
        (ECHO.replace('name="echo"', 'name="ekko"'), "calls itself 'ekko'"),
        ("", "cannot be imported: AttributeError"),
    ],
)
def test_a_broken_package_is_named_and_breaks_no_other(site: Path, code: str, said: str) -> None:
    install(site, "broken-strategy", "echo", code)
    install(site, "more-strategies", "other", ECHO.replace('name="echo"', 'name="other"'))
    with pytest.raises(ExportError) as caught:
        find_strategy("echo")
    assert "'echo' of the package 'broken-strategy' cannot be used" in caught.value.message
    assert said in caught.value.message
    assert "pip uninstall broken-strategy" in caught.value.action
    assert find_strategy("other").name == "other"
    assert possible_choices(None, NgramOptions())[0].strategy.name == "ngram"


def test_a_package_does_not_take_a_name_that_is_ours(site: Path) -> None:
    install(site, "imposter", "ngram", "raise RuntimeError")
    assert strategy_names() == BUILT_IN
    assert find_strategy("ngram").options is NgramOptions


@pytest.mark.parametrize(("height", "deepest"), [(1, 15), (2, 10), (3, 5), (4, 2)])
def test_the_default_tree_of_heads_has_the_likeliest_nodes(height: int, deepest: int) -> None:
    tree = likely_tree(height)
    assert (tree.num_nodes, max(tree.depths)) == (16, height)
    assert list(tree.depths) == sorted(tree.depths)
    assert tree.depths.count(height) == deepest
    for smaller in range(1, 15):  # a node comes after its parent and its siblings before it
        assert set(_paths(likely_tree(height, smaller))) < set(_paths(tree))


def _paths(tree: TreeSpec) -> list[tuple[int, ...]]:
    """The ranks on the way to each node."""
    paths: list[tuple[int, ...]] = [()]
    for parent, rank in zip(tree.parents[1:], tree.ranks[1:], strict=True):
        paths.append((*paths[parent], rank))
    return paths
