"""Layers of a target that draft for it: early exits and subsets, chosen by the user, by a search, or by tuning."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.generation.candidate_generator import EarlyExitCandidateGenerator
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.tuning import tune as tuning
from ptgc.errors import ExportError, UsageError
from ptgc.exporters import export
from ptgc.exporters.roles.base import RoleSource, trace_role
from ptgc.exporters.strategies.layer_search import search_layers
from ptgc.exporters.strategies.layer_skip import check_layers, some_layers
from ptgc.runtime import Generator
from ptgc.runtime.costs import CostCurve, RoundCost
from ptgc.runtime.tuning import Tuning, read_tuning, write_tuning
from ptgc.spec.bundle import Build, open_bundle
from ptgc.spec.drafter import alternative_roles
from ptgc.spec.strategies.layer_skip import layer_subsets
from tests.layers import NEEDLESS, deep_model, drafts_of
from tests.models import greedy, prompt, save
from tests.shared import worker_copy

NEW_TOKENS, DRAFTS, PADDING = 48, 4, 511
KEPT = tuple(layer for layer in range(6) if layer not in NEEDLESS)
SUBSETS = ((0, 1, 2), KEPT, (0, 2, 4, 5))
PROMPTS = [prompt(length) for length in (1, 5, 40, 90)]


@cache
def bundle(place: Path, family: str = "llama", subsets: tuple[tuple[int, ...], ...] = SUBSETS) -> Path:
    """A bundle with a drafter for each subset."""
    target = deep_model(family)
    parts = {
        role: some_layers(target, kept) for role, kept in zip(alternative_roles(len(subsets)), subsets, strict=True)
    }
    plan = layer_subsets(subsets, DRAFTS)
    return worker_copy(place, f"{family}-layers", lambda path: export({"target": target} | parts, plan, path))


@cache
def built(path: Path, precision: str, batch: int) -> str:
    """The name of a build of it, which is made now."""
    options = BuildOptions(precision=precision, batch_size=batch, max_length=256, stage=Stage.PREPARE)
    return build(path, options).manifest.id


def opened(path: Path, drafter: str | None = None, precision: str = "float32", batch: int = 1) -> Generator:
    """A build that verifies every draft."""
    return Generator(path, build=built(path, precision, batch), draft_length="fixed", drafter=drafter)


@pytest.mark.parametrize("drafter", [None, *alternative_roles(len(SUBSETS))])
def test_rounds_are_those_of_plain_pytorch(place: Path, drafter: str | None) -> None:
    kept = SUBSETS[alternative_roles(len(SUBSETS)).index(drafter or "drafter")]
    rounds = accepted = drafted = 0
    with opened(bundle(place), drafter) as generator:
        for given in PROMPTS:
            result = generator.generate(given, max_new_tokens=NEW_TOKENS, trace=True)
            assert result.token_ids == greedy(deep_model(), given, NEW_TOKENS)
            ids = list(given)
            for one in result.trace:
                if len(one.drafted_ids) == DRAFTS:
                    expected = drafts_of(deep_model(), kept, ids, DRAFTS)
                    assert one.drafted_ids == expected
                    rounds, drafted, accepted = rounds + 1, drafted + DRAFTS, accepted + one.accepted
                ids += one.emitted_ids
    assert rounds > NEW_TOKENS / 2
    assert 0.3 < accepted / drafted < 0.9 or kept == (0, 1, 2)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_no_subset_changes_a_text(place: Path, precision: str) -> None:
    for drafter in alternative_roles(len(SUBSETS)):
        with opened(bundle(place), drafter, precision, 4) as generator:
            for sampling in ({}, {"temperature": 0.8, "seed": 3}):
                drafted, plain = (
                    generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS, plain=kind, **sampling)
                    for kind in (False, True)
                )
                assert [one.token_ids for one in drafted] == [one.token_ids for one in plain]
                assert sum(one.statistics.accepted_tokens for one in drafted) > 0


@pytest.mark.parametrize("subset", [(0, 3), (1, 3, 5)], ids=["sliding", "both"])
def test_layers_with_and_without_windows_draft_beyond_them(place: Path, subset: tuple[int, ...]) -> None:
    subsets = ((0, 3), (1, 3, 5))
    role = alternative_roles(2)[subsets.index(subset)]
    given = [prompt(length) for length in (20, 90)]
    path = bundle(place, "cohere2", subsets)
    with opened(path, role, batch=4) as generator:
        results = generator.generate(given, max_new_tokens=100)
    assert [one.token_ids for one in results] == [greedy(deep_model("cohere2"), ids, 100) for ids in given]
    assert sum(one.statistics.drafted_tokens for one in results) > 100


class RecordedExit(EarlyExitCandidateGenerator):
    """transformers' early exit, with the drafts of every round and how many were accepted."""

    rounds: list[tuple[list[int], int]]

    def get_candidates(self, input_ids: Any, **options: Any) -> Any:
        ids, logits = super().get_candidates(input_ids, **options)
        self.drafts = ids[0, input_ids.shape[1] :].tolist()
        return ids, logits

    def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: int) -> None:
        super().update_candidate_strategy(input_ids, scores, num_matches)
        type(self).rounds.append((self.drafts, int(num_matches)))


@pytest.mark.parametrize("given", PROMPTS[1:], ids=len)
def test_rounds_of_an_early_exit_are_those_of_transformers(
    place: Path, given: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.generation.utils.EarlyExitCandidateGenerator", RecordedExit)
    RecordedExit.rounds = []
    settings = {"num_assistant_tokens": DRAFTS, "num_assistant_tokens_schedule": "constant"}
    for name, value in {**settings, "assistant_confidence_threshold": 0.0}.items():
        monkeypatch.setattr(deep_model().generation_config, name, value)
    # There, the first round already drafts; here, the target reads the prompt first, which gives the first token.
    begun = [*given, *greedy(deep_model(), given, 1)]
    text = deep_model().generate(
        torch.tensor([begun]),
        attention_mask=torch.ones(1, len(begun), dtype=torch.long),
        max_new_tokens=NEW_TOKENS - 1,
        do_sample=False,
        pad_token_id=PADDING,
        assistant_early_exit=3,
    )
    with opened(bundle(place)) as generator:
        result = generator.generate(given, max_new_tokens=NEW_TOKENS, trace=True)
    assert result.token_ids == text[0, len(given) :].tolist()
    assert PADDING not in text  # the assistant would not see it
    written = [one for one in result.trace if one.emitted_ids]
    assert written[0].drafted_ids == []
    found = [(one.drafted_ids, one.accepted) for one in written[1:]]
    assert [one for one in found if one[0]] == [one for one in RecordedExit.rounds if one[0]]


def test_a_search_leaves_out_the_layers_that_change_least() -> None:
    said: list[str] = []
    found = search_layers(deep_model(), None, (3, 5, None), some_layers, said.append)
    assert found[0] == KEPT
    assert set(found[0]) < set(found[1])
    assert [len(one) for one in found] == [3, 5, 4]
    assert any("3 of 6 layers: " in line for line in said)


@pytest.fixture
def own(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first bundle, which the test may change; a round of a drafter costs what its layers cost."""

    built(bundle(place), "float32", 1)
    copy = Path(shutil.copytree(bundle(place), tmp_path / "bundle"))

    def measured(made: Build, threads: int, _: object, drafter: str | None = None) -> CostCurve:
        share = len(made.manifest.roles[drafter or "drafter"].states) / 6
        costs = {
            role: {width: RoundCost(cost, cost, cost, 1) for width in made.manifest.shapes.roles[role].widths}
            for role, cost in (("target", 1.0), ("drafter", 0.3 * share))
        }
        return CostCurve(threads, 64, costs["target"], costs["drafter"])

    monkeypatch.setattr(tuning, "measure_costs", measured)
    return copy


def test_tuning_chooses_the_layers_that_pay_most_and_runs_use_them(own: Path, tmp_path: Path) -> None:
    name = "onnxruntime-cpu-float32-l256"
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": str(n), "token_ids": ids}) + "\n" for n, ids in enumerate(PROMPTS)))
    asked = ["--prompts", prompts, "--max-new-tokens", 24, "--threads", 1, "--build", name]
    tuned = run("tune", own, *asked)
    assert [row["drafter"] for row in tuned["rows"]] == list(alternative_roles(len(SUBSETS)))
    best = min(tuned["rows"], key=lambda row: row["milliseconds"])
    assert tuned["chosen"]["drafter"] == best["drafter"] == "drafter_2"
    made = open_bundle(own).build(name)
    found = read_tuning(made, open_bundle(own).manifest.plan)
    assert found is not None and found.drafter == "drafter_2"
    shown = CliRunner().invoke(app, ["tune", str(own), *map(str, asked)]).output
    assert "layers 0,2,5" in " ".join(shown.split())

    def rounds(**options: Any) -> list[list[int]]:
        with Generator(own, build=made.manifest.id, draft_length="fixed", num_draft_tokens=DRAFTS, **options) as one:
            return [done.drafted_ids for done in one.generate(PROMPTS[2], max_new_tokens=24, trace=True).trace]

    assert rounds() == rounds(drafter="drafter_2") != rounds(drafter="drafter")
    write_tuning(made, Tuning(1, DRAFTS, (), {}, drafter="drafter_9"))  # of another export
    assert rounds() == rounds(drafter="drafter")


def test_a_drafter_that_a_bundle_lacks_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match=r"drafter is 'drafter_4'; .* drafter, drafter_2, drafter_3\."):
        opened(bundle(place), "drafter_4")


def run(*arguments: object) -> Any:
    """The result of a command that succeeds, from its JSON."""
    made = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert made.exit_code == 0, made.output
    return json.loads(made.stdout)


def test_the_public_commands(tmp_path: Path) -> None:
    made, model = tmp_path / "bundle", save(deep_model(), tmp_path / "model")
    options = ["--strategy", "layer-skip", "--layers", "0-1/auto:3", "--num-draft-tokens", DRAFTS]
    planned = run("export", model, *options, "--dry-run")["plan"]["drafter"]["layers"]
    run("export", model, "-o", made, *options)
    run("build", made, "--precision", "int8", "--max-length", 128)
    manifest = run("inspect", made)["manifest"]
    assert manifest["plan"]["drafter"]["layers"] == planned == [[0, 1], list(KEPT)]
    assert manifest["provenance"]["arguments"]["layers"] == "0-1/auto:3"
    assert "layers 0,2,5 of the target" in " ".join(CliRunner().invoke(app, ["inspect", str(made)]).output.split())
    asked = ("run", made, "--prompt-ids", ",".join(map(str, PROMPTS[2])), "--max-new-tokens", 24)
    plain = run(*asked, "--plain")["token_ids"]
    assert [run(*asked, "--drafter", role)["token_ids"] for role in ("drafter", "drafter_2")] == [plain, plain]
    run("check", made)


@pytest.mark.parametrize(
    ("subsets", "said"),
    [
        (((0, 6), (0, 1)), ["layers 0,6 are more"]),
        ((tuple(range(6)), (7,)), ["layers 0-5 are all of them", "layers 7 are more"]),
        (((),), ["at least one layer"]),
    ],
)
def test_layers_that_a_model_lacks_are_refused(subsets: tuple[tuple[int, ...], ...], said: list[str]) -> None:
    with pytest.raises(ExportError, match="LlamaForCausalLM has 6 layers, from 0 to 5") as caught:
        check_layers(deep_model(), subsets)
    assert all(part in caught.value.message for part in said)


def test_modules_must_have_the_layers_of_their_plan() -> None:
    source = RoleSource("drafter", some_layers(deep_model(), (0,)), layer_subsets([(0, 1, 2)]))
    with pytest.raises(ExportError, match="The drafter has 1 layers with a cache; the plan's layers are 0-2"):
        trace_role(source)
