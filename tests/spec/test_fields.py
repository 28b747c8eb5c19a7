"""Dataclasses are read with the ranges of their fields, and all problems are reported at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ptgc.spec.acceptance import AcceptanceRule, RelaxedAcceptance, TypicalAcceptance
from ptgc.spec.canvas import CanvasPlan, CanvasStop, ConfidenceOf, PolicyKind, PolicyPlan, Schedule
from ptgc.spec.fields import read
from ptgc.spec.json_file import UnreadableError
from ptgc.spec.kv_cache import LayerState, SharedLayer, StateKind
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import DType
from ptgc.spec.shapes import ShapePlan
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.eagle3 import eagle3
from ptgc.spec.strategies.levenshtein import levenshtein
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.strategies.ngram import ngram
from ptgc.spec.strategies.suffix import suffix
from ptgc.spec.tree import TreeSpec
from tests.loops import INSERTION, SOURCE_EDITS

TARGET: dict[str, Any] = {
    "widths": [1, 2, 8],
    "verify_width": 2,
    "kv_capacities": [72],
    "window_capacities": {"24": 40},
    "source_lengths": [],
    "canvas_lengths": [],
}
SHAPES: dict[str, Any] = {"batch": 1, "max_length": 64, "roles": {"target": TARGET, "drafter": TARGET}}
STATE = {"kind": "full", "kv_heads": 2, "head_dim": 8, "dtype": "float32"}
SUFFIX = suffix(3).drafter.to_json()
MODEL_DRAFTER = draft_model(3).drafter.to_json()
CANVAS = CanvasPlan(
    3,
    4,
    8,
    PolicyPlan(PolicyKind.ENTROPY, 1.5, sampled=True, confidence_of=ConfidenceOf.SAMPLED),
    schedule=Schedule.PER_BLOCK,
    stop=CanvasStop.EOS,
)
MODEL = {"family": "x", "vocab_size": 10, "context_length": 64, "eos_token_ids": [2], "bos_token_id": None}


def test_what_is_written_is_read() -> None:
    for plan in (
        ngram(),
        draft_model(),
        draft_model(acceptance=AcceptanceRule.BLOCK),
        draft_model(overlap=True),
        draft_model().accepting(AcceptanceRule.TYPICAL, typical=TypicalAcceptance(0.2, 0.5)),
        draft_model().accepting(AcceptanceRule.RELAXED, relaxed=RelaxedAcceptance(3, 1.5)),
        suffix(),
        with_lookup(draft_model(), Lookup.NGRAM),
        with_lookup(eagle3(tree=TreeSpec.branching(2, 2)), Lookup.SUFFIX),
        replace(eagle3(tree=TreeSpec.branching(2, 2)), dynamic_tree=True),
        masked_diffusion(3, threshold=0.5),
        replace(masked_diffusion(3), canvas=CANVAS),
        levenshtein(3, 1, 2, 0),
        INSERTION,
        SOURCE_EDITS,
    ):
        beside = {"strategy": plan.strategy, "guarantee": plan.guarantee.value}
        assert read(DecodePlan, plan.to_json() | beside) == plan
    assert read(ShapePlan, SHAPES).to_json() == SHAPES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", 0),
        ("batch", 1025),
        ("batch", True),
        ("batch", 1.0),
        ("batch", "1"),
        ("batch", None),
        ("batch", 10**400),
        ("max_length", (1 << 24) + 1),
        ("roles", None),
        ("roles", []),
        ("roles", {"target": None}),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnreadableError, match=rf"is damaged: {name}"):
        read(ShapePlan, SHAPES | {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("widths", [1, 1]),
        ("widths", [2, 1]),
        ("widths", [1, 65537]),
        ("widths", list(range(1, 66))),
        ("widths", 1),
        ("widths", {"0": 1}),
        ("verify_width", -1),
        ("kv_capacities", [(1 << 25) + 1]),
        ("source_lengths", [0]),
        ("canvas_lengths", [1 << 30]),
        ("window_capacities", {"0": 1}),
        ("window_capacities", {"024": 1}),
        ("window_capacities", {"x": 1}),
        ("window_capacities", {"24": 0}),
        ("window_capacities", [24]),
    ],
)
def test_a_size_of_a_role_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnreadableError, match=rf"is damaged: (a name in )?roles.drafter.{name}"):
        read(ShapePlan, SHAPES | {"roles": {"target": TARGET, "drafter": TARGET | {name: value}}})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("target", "shared_with"),
        ({"role": "target"}, "shared_with.layer is missing"),
        ({"layer": 0}, "shared_with.role is missing"),
        ({"role": "target", "layer": -1}, "shared_with.layer is -1"),
        ({"role": "target", "layer": 4096}, "shared_with.layer is 4096"),
        ({"role": 3, "layer": 0}, "shared_with.role is 3"),
    ],
)
def test_a_shared_layer_is_a_role_and_a_number(value: Any, said: str) -> None:
    with pytest.raises(UnreadableError, match=said):
        read(LayerState, STATE | {"shared_with": value})


def test_a_shared_layer_is_read_as_it_is_written() -> None:
    for shared in (None, SharedLayer("target", 3)):
        state = LayerState(StateKind.FULL, 2, 8, DType.FLOAT32, shared_with=shared)
        assert read(LayerState, state.to_json()) == state


def test_every_problem_is_reported() -> None:
    wrong = SHAPES | {"batch": -1, "roles": {"target": TARGET | {"widths": [0, "a"], "kv_capacities": None}}}
    del wrong["max_length"]
    with pytest.raises(UnreadableError) as raised:
        read(ShapePlan, wrong, "shapes")
    message = str(raised.value)
    for expected in (
        "shapes.batch is -1; it must be from 1 to 1024",
        "shapes.max_length is missing",
        "shapes.roles.target.widths[0] is 0",
        "shapes.roles.target.widths[1] is 'a'; it must be an integer",
        "shapes.roles.target.kv_capacities is null; it must be a list",
    ):
        assert expected in message


@pytest.mark.parametrize("document", [None, 3, [], "x", {}])
def test_what_is_no_object_of_the_kind_is_refused(document: Any) -> None:
    with pytest.raises(UnreadableError, match="is damaged"):
        read(ModelFacts, document)


@pytest.mark.parametrize("change", [{"eos_token_ids": [10]}, {"bos_token_id": 10}, {"decoder_start_token_id": 99}])
def test_a_token_outside_the_vocabulary_is_refused(change: dict[str, Any]) -> None:
    assert read(ModelFacts, MODEL).eos_token_ids == (2,)
    with pytest.raises(UnreadableError, match="must be below vocab_size, 10"):
        read(ModelFacts, MODEL | change)


@pytest.mark.parametrize("parents", [[], [0], [-1, 1], [-1, -1], [-1, 0, 5], [-1] + [0] * 4096, None])
def test_a_tree_needs_valid_parents(parents: Any) -> None:
    data = ngram(3).to_json() | {"strategy": "ngram", "guarantee": "lossless", "tree": parents}
    with pytest.raises(UnreadableError, match="tree"):
        read(DecodePlan, data)


@pytest.mark.parametrize(
    "change",
    [
        {"num_draft_tokens": 16},
        {"num_draft_tokens": -1},
        {"min_ngram_size": 0},
        {"min_ngram_size": 9},
        {"max_ngram_size": 65},
        {"kind": "telepathy"},
    ],
)
def test_a_drafter_must_fit_its_tree_and_itself(change: dict[str, Any]) -> None:
    data: dict[str, Any] = ngram(15).to_json() | {"strategy": "ngram", "guarantee": "lossless"}
    data["drafter"] = data["drafter"] | change
    with pytest.raises(UnreadableError, match="drafter"):
        read(DecodePlan, data)


@pytest.mark.parametrize(
    ("drafters", "problem"),
    [
        ([], "has 0 entries; it must have 2 to 8"),
        ([SUFFIX], "has 1 entries"),
        ([SUFFIX] * 9, "has 9 entries"),
        ([MODEL_DRAFTER, SUFFIX], r"\[0\] is of kind 'model', which runs a model; it must be the last"),
        ([SUFFIX, {"kind": "none"}], r"\[1\] is of kind 'none', which cannot be merged"),
        ([SUFFIX, SUFFIX | {"min_probability": 2}], r"\[1\].min_probability is 2"),
        ([SUFFIX, SUFFIX | {"num_draft_tokens": 2}], "num_draft_tokens is 4; the most of the merged drafters is 3"),
    ],
)
def test_drafters_that_cannot_be_merged_are_refused(drafters: list[Any], problem: str) -> None:
    data: dict[str, Any] = suffix(4).to_json() | {"strategy": "x", "guarantee": "lossless"}
    data["drafter"] = {"kind": "merged", "num_draft_tokens": 4, "drafters": drafters}
    with pytest.raises(UnreadableError, match=problem):
        read(DecodePlan, data)


def test_a_model_behind_a_lookup_drafts_the_first_nodes_of_the_tree() -> None:
    plan = eagle3(tree=TreeSpec.branching(2, 2))
    merged = with_lookup(plan, Lookup.SUFFIX)
    assert merged.learned == plan
    assert (merged.drafter.roles, merged.drafter.taps) == (("drafter",), ("hidden_states",))
    assert merged.tree.parents == (*plan.tree.parents, *range(6, 15))
    assert with_lookup(plan, Lookup.NONE) is plan


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), float("inf"), True, "0.5"])
def test_a_threshold_is_a_number_from_0_to_1(threshold: Any) -> None:
    data: dict[str, Any] = masked_diffusion(3).to_json() | {"strategy": "masked-diffusion", "guarantee": "lossy"}
    data["canvas"] = data["canvas"] | {"policy": {"threshold": threshold}}
    with pytest.raises(UnreadableError, match=r"canvas\.policy\.threshold"):
        read(DecodePlan, data)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"policy": {"kind": "charm"}}, r"canvas\.policy\.kind is 'charm'; it must be one of confidence, factor"),
        ({"policy": {"kind": "entropy", "threshold": 1001}}, "with the policy entropy it must be from 0 to 1000"),
        ({"policy": {"kind": "random", "threshold": 0.5}}, "with the policy random it must be null"),
        ({"policy": {"sampled": 1}}, r"canvas\.policy\.sampled is 1; it must be true or false"),
        ({"policy": {"confidence_of": "nobody"}}, r"confidence_of is 'nobody'; it must be one of model, sampled"),
        ({"schedule": "convex"}, "schedule is 'convex'; it must be one of linear, cosine, per-block"),
        ({"schedule": "per-block"}, "block_length is 0; schedule is per-block, which needs a length"),
        ({"num_draft_steps": 64}, r"canvas\.num_draft_steps is 64; it must be from 0 to 63"),
        (
            {"num_draft_steps": 2, "cache": "block", "block_length": 4},
            "num_draft_steps is 2; cache is block, with which no steps are drafted",
        ),
        ({"cache": "dual"}, "block_length is 0; cache is dual, which needs a length"),
        ({"cache_interval": 1}, "cache_interval is 1; it must be from 2 to 65536"),
        ({"stop": "never"}, "stop is 'never'; it must be one of block, eos"),
    ],
)
def test_a_policy_or_schedule_that_is_unknown_or_out_of_range_is_refused(changes: dict[str, Any], problem: str) -> None:
    data: dict[str, Any] = masked_diffusion(3).to_json() | {"strategy": "masked-diffusion", "guarantee": "lossy"}
    data["canvas"] |= changes
    with pytest.raises(UnreadableError, match=problem):
        read(DecodePlan, data)


def test_the_policies_of_the_loop_are_needed_and_others_ignored() -> None:
    data: dict[str, Any] = masked_diffusion(3).to_json() | {"strategy": "masked-diffusion", "guarantee": "lossy"}
    assert read(DecodePlan, data | {"drafter": 5}) == masked_diffusion(3)
    del data["canvas"]
    with pytest.raises(UnreadableError, match="canvas is missing"):
        read(DecodePlan, data)


def test_a_state_with_a_size_of_no_integer_is_refused() -> None:
    state = {"kind": "full", "kv_heads": "2", "head_dim": 8, "dtype": "float32"}
    with pytest.raises(UnreadableError, match="kv_heads is '2'; it must be an integer"):
        read(LayerState, state)


def test_only_the_speculative_loop_is_lossless() -> None:
    data = masked_diffusion(3).to_json() | {"strategy": "masked-diffusion", "guarantee": "lossless"}
    with pytest.raises(UnreadableError, match="guarantee is lossless, as only the speculative loop can be"):
        read(DecodePlan, data)
