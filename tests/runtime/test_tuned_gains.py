"""What is expected of a text at first: the acceptance that was tuned, and what drafting costs here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.tuning.cost import measure_costs
from ptgc.errors import UsageError
from ptgc.exporters import export
from ptgc.runtime import Generator
from ptgc.runtime.costs import CostCurve, RoundCost, read_costs, write_costs
from ptgc.runtime.tuning import Tuning, read_tuning, write_tuning
from ptgc.spec.bundle import Build, open_bundle
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.tree import TreeSpec
from tests.models import greedy, prompt, tiny_model
from tests.runtime.test_seams import TREE, build_of, probe

NEW_TOKENS = 24
IDS = prompt(32)
"""As many as a width has, so that no draft is free while the prompt is read."""
CHAIN = TreeSpec.chain(3)
NEVER = Tuning(1, 8, (0.0,), {})
OFTEN = Tuning(1, 3, (0.99, 0.98, 0.97), {}, tree=CHAIN, gains=(0.99, 0.98, 0.97))


def own(bundle: Path, path: Path) -> Build:
    """A build of one row whose measurements are its own."""
    copytree(bundle, path)
    return open_bundle(path).build(build_of(1))


@cache
def sure(place: Path) -> Path:
    """A bundle whose drafts are always accepted, if they are the likeliest: the target drafts for itself."""
    roles = {"target": tiny_model("llama"), "drafter": tiny_model("llama")}
    path = export(roles, draft_model(tree=TREE), place / "sure")
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    return path


def set_costs(build: Build, row: float, drafting: float) -> None:
    """As if each further row of a round cost this share of a plain one, and so did a round of the drafter."""

    def rounds(widths: Mapping[int, float]) -> dict[int, RoundCost]:
        return {width: RoundCost(cost, cost, cost, 9) for width, cost in widths.items()}

    roles = build.manifest.shapes.roles
    own_widths = roles["drafter"].widths if "drafter" in roles else (1,)
    target = {width: 1 + row * (width - 1) for width in roles["target"].widths}
    write_costs(build, CostCurve(1, 0, rounds(target), rounds(dict.fromkeys(own_widths, drafting))))


def begins_with_drafts(build: Build, **options: Any) -> bool:
    """Whether the first decode rounds of a text have drafts, or none of them; the text is the plain one."""
    with Generator(build.path.parent.parent, build=build.manifest.id, num_threads=1, **options) as generator:
        result = generator.generate(IDS, max_new_tokens=NEW_TOKENS, trace=True)
    assert result.token_ids == greedy(tiny_model("llama"), IDS, NEW_TOKENS)
    drafted = [bool(one.drafted_ids) for one in result.trace if one.emitted_ids][1:9]
    assert drafted[0] or not any(drafted)
    return drafted[0]


def test_drafts_that_were_never_accepted_are_not_made_at_first(place: Path, tmp_path: Path) -> None:
    made = own(sure(place), tmp_path / "bundle")
    set_costs(made, 0.05, 0.05)
    assert begins_with_drafts(made)
    write_tuning(made, NEVER)
    assert not begins_with_drafts(made)
    assert begins_with_drafts(made, gains=[0.8])  # what is given is not as tuned
    write_tuning(made, OFTEN)
    assert begins_with_drafts(made)


def test_drafts_that_were_always_accepted_are_made_at_once(place: Path, tmp_path: Path) -> None:
    made = own(sure(place), tmp_path / "bundle")
    set_costs(made, 0.85, 0.01)
    assert not begins_with_drafts(made)
    write_tuning(made, OFTEN)
    assert begins_with_drafts(made)
    assert not begins_with_drafts(made, tree=TreeSpec.branching(2, 1))  # of another tree, nothing was tuned
    write_tuning(made, NEVER)
    assert not begins_with_drafts(made)


def test_gains_are_those_of_the_tuned_tree_or_of_a_chain(place: Path) -> None:
    plan = open_bundle(sure(place)).manifest.plan
    assert (OFTEN.draft_gains(plan), NEVER.draft_gains(plan)) == ((0.99, 0.98, 0.97), (0.0,))
    assert (
        NEVER.draft_gains(with_lookup(draft_model(3), Lookup.SUFFIX)) == ()
    )  # nobody knows which of the drafters it was
    with pytest.raises(UsageError, match=r"gains has 2 entries; tree has 3 drafts"):
        Generator(sure(place), build=build_of(1), tree=CHAIN, gains=[0.5, 0.2])
    for wrong in ([0.5, 1.5], [-0.1], 0.5, "0.5", [None]):
        with pytest.raises(UsageError, match=r"gains is .*; it must be (made of|a list of|a) number"):
            Generator(sure(place), build=build_of(1), gains=wrong)


def test_the_cost_of_heads_is_measured_and_decides(place: Path, tmp_path: Path) -> None:
    made = own(probe(place, "medusa"), tmp_path / "bundle")
    said: list[str] = []
    say: Callable[[str], None] = said.append
    curve = measure_costs(made, 1, say)
    assert set(curve.drafter_rounds) == {1} and curve.drafter_rounds[1].median > 0
    write_costs(made, curve)
    assert read_costs(made, 1) == curve
    assert read_tuning(made, open_bundle(tmp_path / "bundle").manifest.plan) is None
    for drafting, pays in ((0.01, True), (5.0, False)):
        set_costs(made, 0.01, drafting)
        assert begins_with_drafts(made) is pays
