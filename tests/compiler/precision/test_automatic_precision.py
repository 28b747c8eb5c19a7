"""--precision auto."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.precision import automatic_precision as module
from ptgc.compiler.tuning import cost
from ptgc.errors import BuildError, StorageError, UsageError
from ptgc.exporters import export
from ptgc.runtime.costs import CostCurve, RoundCost
from ptgc.spec.bundle import Build, open_bundle
from ptgc.spec.strategies.draft_model import draft_model
from tests.bundles import real_bundle, tiny_bundle
from tests.models import tiny_model


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "_SECONDS", 0)


@pytest.fixture
def stories(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(real_bundle(place, "stories15m"), tmp_path / "stories"))


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of a round by precision, in place of measured ones."""
    seconds = {"int4": 1.0, "int8": 2.0}

    def measured(made: Build, *_: object) -> CostCurve:
        cost = seconds[made.manifest.precision.get("drafter", made.manifest.precision["target"])]
        round_cost = {width: RoundCost(cost, cost, cost, 1) for width in made.manifest.shapes.roles["target"].widths}
        return CostCurve(1, 256, round_cost, round_cost)

    monkeypatch.setattr(module, "measure_costs", measured)
    return seconds


def test_the_fastest_within_the_loss_is_taken(stories: Path, costs: dict[str, float]) -> None:
    made = build(stories, BuildOptions(max_divergence=10, max_length=128))
    assert made.manifest.id == "onnxruntime-cpu-int4-l128"
    assert made.manifest.precision == {"target": "int4"}
    costs["int4"] = 3.0
    assert build(stories, BuildOptions(max_divergence=10, build_id="other")).manifest.precision == {"target": "int8"}


def test_what_loses_more_is_not_taken_however_fast(stories: Path) -> None:
    made = build(stories, BuildOptions(max_length=128))
    assert made.manifest.precision == {"target": "int8"}
    reason = made.manifest.provenance["precision.target"]
    assert reason.startswith("auto took int8: at most 0.05 nats a token; int4 0.")
    least = build(stories, BuildOptions(max_divergence=1e-9, max_length=128, stage=Stage.ALL))
    assert least.manifest.precision == {"target": "float32"}


def test_what_was_tried_is_the_build_that_would_have_been_made(stories: Path) -> None:
    chosen = build(stories, BuildOptions(max_length=128))
    named = build(stories, BuildOptions(precision="int8", max_length=128, build_id="named"))
    assert chosen.manifest.files == named.manifest.files
    assert chosen.manifest.sequence + 1 == named.manifest.sequence
    chosen.verify()
    left = {path.name for path in (stories / "builds").iterdir()}
    assert left == {chosen.manifest.id, "named"}


def test_a_batch_is_judged_by_one_sequence(stories: Path) -> None:
    made = build(stories, BuildOptions(max_length=128, batch_size=2))
    assert made.manifest.id == "onnxruntime-cpu-int8-l128-b2"
    assert made.manifest.shapes.batch == 2


@pytest.mark.usefixtures("costs")
def test_a_head_that_was_asked_for_is_kept_and_nothing_is_tried_twice(stories: Path) -> None:
    said: list[str] = []
    made = build(stories, BuildOptions(precision="head=int4", max_divergence=10, max_length=128), said.append)
    assert made.manifest.precision == {"target": "int4", "target.head": "int4"}
    assert [line for line in said if line.startswith("Trying")] == ["Trying int4", "Trying int8"]


@pytest.mark.usefixtures("costs")
def test_roles_are_chosen_apart(tmp_path: Path) -> None:
    roles = {"target": tiny_model("llama"), "drafter": tiny_model("llama")}
    bundle = export(roles, draft_model(3), tmp_path / "pair")
    made = build(bundle, BuildOptions(precision="drafter=auto,target=float32", max_divergence=10, max_length=64))
    assert made.manifest.precision == {"target": "float32", "drafter": "int4"}
    common = {"ptgc", "backend_version", "operators.target", "operators.drafter"}
    assert set(made.manifest.provenance) == common | {"precision.drafter", "quantizer.drafter"}


@pytest.mark.parametrize("options", [BuildOptions(stage=Stage.PREPARE), BuildOptions(backend="tensorrt-rtx")])
def test_where_nothing_is_measured_the_default_is_taken(options: BuildOptions, place: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle(place, "llama"), tmp_path / "bundle"))
    made = build(bundle, options)
    assert set(made.manifest.precision.values()) == {"int8" if options.backend == "onnxruntime" else "float16"}


def test_a_build_that_was_chosen_is_measured_again_by_name_of_its_options(
    stories: Path, costs: dict[str, float]
) -> None:
    assert costs
    made = build(stories, BuildOptions(max_divergence=10))
    assert made.manifest.precision == {"target": "int4"}
    assert build(stories, BuildOptions(stage=Stage.COMPILE)).manifest.id == made.manifest.id


def test_bad_requests_are_refused_before_anything_is_tried(stories: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Once upon a time")
    for options, error, words in [
        (BuildOptions(max_divergence=0), UsageError, "--max-divergence is 0"),
        (BuildOptions(max_divergence=float("nan")), UsageError, "--max-divergence is nan"),
        (BuildOptions(text=short), UsageError, "at least 1024"),
        (BuildOptions(text=short, precision="int8"), UsageError, "nothing to judge"),
        (BuildOptions(text=short, stage=Stage.PREPARE), UsageError, "nothing to judge"),
        (BuildOptions(precision="fp4"), BuildError, "no precision 'fp4'"),
        (BuildOptions(precision="head=fp4"), BuildError, "no precision 'fp4'"),
    ]:
        with pytest.raises(error, match=words):
            build(stories, options)
    assert not open_bundle(stories).builds()
    build(stories, BuildOptions(precision="int8", build_id="mine", stage=Stage.PREPARE))
    with pytest.raises(StorageError, match="exists already"):
        build(stories, BuildOptions(build_id="mine"))


def test_builds_that_are_being_written_are_none(stories: Path) -> None:
    made = build(stories, BuildOptions(precision="int8", stage=Stage.PREPARE))
    shutil.copytree(made.path, made.path.with_name(".half.partial-1"))
    assert [one.manifest.id for one in open_bundle(stories).builds()] == [made.manifest.id]
