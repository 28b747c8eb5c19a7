"""A manifest and a build that are each well-formed may still contradict each other, loop by loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ptgc.spec import ports
from ptgc.spec.fitting import plan_problems, shape_problems
from ptgc.spec.kv_cache import LayerState, Rollback, StateKind
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import DType, Port
from ptgc.spec.role import Role
from ptgc.spec.shapes import ShapePlan
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.levenshtein import levenshtein
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.ngram import ngram

VOCAB = 10
MODEL = ModelFacts("x", VOCAB, 64, decoder_start_token_id=1)
STATE = LayerState(StateKind.FULL, 2, 8, DType.FLOAT32)
WINDOW = replace(STATE, kind=StateKind.WINDOW, window=24)
CROSS = replace(STATE, kind=StateKind.CROSS)
HIDDEN = ports.encoder_hidden_states(16, DType.FLOAT32)
READER = Role("encoder.onnx", (ports.SOURCE_IDS, ports.ENCODER_ATTENTION_MASK), (HIDDEN,))
TARGET = Role("target.onnx", ports.CAUSAL_INPUTS, (ports.logits(VOCAB, DType.FLOAT32), ports.NEXT_IDS), (STATE,))
OPERATION = Role("x.onnx", (ports.CANVAS_IDS, ports.LENGTHS, HIDDEN), (ports.OUTPUT_IDS, ports.OUTPUT_LENGTHS))
ROUNDS = ShapePlan(1, 64, (1, 2, 8), 4, (72,))
CANVAS = ShapePlan(1, 64, (), 0, (), canvas_lengths=(32, 64))
READ = replace(CANVAS, source_lengths=(32, 64))
LEVENSHTEIN = levenshtein(3, 1, 2, 0)

GOOD: dict[str, tuple[DecodePlan, ShapePlan, dict[str, Role]]] = {
    "speculative": (ngram(3), ROUNDS, {"target": TARGET}),
    "window": (
        ngram(3),
        replace(ROUNDS, window_capacities={24: 39}),
        {"target": replace(TARGET, states=(STATE, WINDOW), inputs=(*TARGET.inputs, ports.WINDOW_OFFSET))},
    ),
    "drafter": (draft_model(3), ROUNDS, {"target": TARGET, "drafter": TARGET}),
    "encoder": (
        ngram(3),
        replace(ROUNDS, source_lengths=(64,)),
        {
            "target": replace(TARGET, cross_states=(CROSS,), inputs=(*TARGET.inputs, ports.ENCODER_ATTENTION_MASK)),
            "encoder": replace(READER, outputs=(), cross_states=(CROSS,)),
        },
    ),
    "canvas": (
        masked_diffusion(3, block_length=64),
        CANVAS,
        {
            "denoiser": Role(
                "denoiser.onnx",
                (ports.CANVAS_IDS, ports.LENGTHS, ports.CANVAS_MASK, ports.STEP, ports.THRESHOLD),
                (ports.OUTPUT_IDS, ports.OUTPUT_MASK, ports.CONFIDENCE),
            )
        },
    ),
    "edit": (LEVENSHTEIN, READ, {"encoder": READER, "deleter": OPERATION, "inserter": OPERATION, "filler": OPERATION}),
    "one-shot": (
        ctc(0, 2),
        replace(READ, canvas_lengths=(64, 128)),
        {"encoder": READER, "decoder": Role("decoder.onnx", (HIDDEN,), (ports.OUTPUT_IDS, ports.OUTPUT_LENGTHS))},
    ),
}


def problems(name: str, *, plan: DecodePlan | None = None, **shapes: Any) -> str:
    its_plan, its_shapes, roles = GOOD[name]
    return "; ".join(shape_problems(plan or its_plan, MODEL, replace(its_shapes, **shapes), roles, roles))


@pytest.mark.parametrize("name", list(GOOD))
def test_what_the_compiler_writes_fits(name: str) -> None:
    assert not problems(name)


@pytest.mark.parametrize(
    ("name", "shapes", "said"),
    [
        ("speculative", {"widths": ()}, "shapes.widths"),
        ("speculative", {"widths": (2, 4)}, "shapes.widths must ascend from 1"),
        ("speculative", {"verify_width": 0}, "shapes.verify_width is 0"),
        ("speculative", {"verify_width": 9}, "shapes.verify_width is 9"),
        ("speculative", {"verify_width": 2}, "plan.tree has 4 nodes"),
        ("speculative", {"kv_capacities": ()}, "shapes.kv_capacities is empty"),
        ("speculative", {"kv_capacities": (71,)}, "largest width, 72"),
        ("speculative", {"kv_capacities": (4, 72)}, "hold the largest width, 8"),
        ("speculative", {"source_lengths": (4,)}, "there is no encoder"),
        ("window", {"window_capacities": {}}, "lacks the window of 24"),
        ("window", {"window_capacities": {24: 30}}, "window_capacities.24 is 30; it must be at least 31"),
        ("encoder", {"source_lengths": ()}, "shapes.source_lengths is empty"),
        ("canvas", {"canvas_lengths": ()}, "shapes.canvas_lengths is empty"),
        ("canvas", {"canvas_lengths": (32,)}, "texts have up to 64"),
        ("edit", {"canvas_lengths": (63,)}, "texts have up to 64"),
        ("edit", {"source_lengths": ()}, "shapes.source_lengths is empty"),
        ("one-shot", {"source_lengths": ()}, "shapes.source_lengths is empty"),
        ("one-shot", {"canvas_lengths": (64, 127)}, "source_lengths times 2"),
    ],
)
def test_lengths_that_the_loop_needs_are_asked_for(name: str, shapes: dict[str, Any], said: str) -> None:
    assert said in problems(name, **shapes)


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("canvas", masked_diffusion(VOCAB)),
        ("one-shot", ctc(VOCAB, 2)),
        ("edit", levenshtein(VOCAB, 1, 2, 0)),
        ("edit", levenshtein(3, 1, 2, 1 << 23)),
    ],
)
def test_a_foreign_token_is_refused(name: str, plan: DecodePlan) -> None:
    assert "must be below vocab_size, 10" in problems(name, plan=plan)


def test_a_block_longer_than_every_canvas_is_refused() -> None:
    assert "plan.canvas.block_length is 65" in problems("canvas", plan=masked_diffusion(3, block_length=65))


@pytest.mark.parametrize("name", list(GOOD))
def test_roles_that_are_missing_or_of_no_use_are_named(name: str) -> None:
    plan, _, roles = GOOD[name]
    for missing in set(roles) - ({"encoder"} if plan.loop.value == "speculative" else set()):
        rest = {other: role for other, role in roles.items() if other != missing}
        assert f"roles lacks '{missing}'" in plan_problems(plan, MODEL, rest)
    found = "; ".join(plan_problems(plan, MODEL, roles | {"oracle": TARGET}))
    assert f"roles has 'oracle', which strategy '{plan.strategy}' has no use for" in found


@pytest.mark.parametrize("name", list(GOOD))
def test_every_role_has_the_ports_that_its_loop_reads(name: str) -> None:
    plan, _, roles = GOOD[name]
    for which, role in roles.items():
        bad = [
            replace(role, inputs=role.inputs[1:]),
            replace(role, inputs=(*role.inputs, role.inputs[0])),
            replace(role, inputs=(*role.inputs, Port("oracle", DType.INT64, ("batch",)))),
            replace(role, inputs=(replace(role.inputs[0], shape=("batch",)), *role.inputs[1:])),
            replace(role, inputs=(replace(role.inputs[0], dtype=DType.BOOL), *role.inputs[1:])),
        ]
        if role.outputs:
            bad.append(replace(role, outputs=()))
        for changed in bad:
            assert f"roles.{which}.ports" in "; ".join(plan_problems(plan, MODEL, roles | {which: changed})), changed


@pytest.mark.parametrize(
    "state",
    [
        replace(STATE, kind=StateKind.RECURRENT),
        replace(STATE, kind=StateKind.CROSS),
        replace(STATE, rollback=Rollback.SELECT_ROW),
        replace(STATE, dtype=DType.INT64),
        replace(STATE, kind=StateKind.WINDOW),
    ],
)
def test_a_state_that_nothing_runs_is_refused(state: LayerState) -> None:
    found = plan_problems(ngram(3), MODEL, {"target": replace(TARGET, states=(state,))})
    assert "roles.target.states[0]" in found[0]


def test_a_target_and_its_encoder_belong_together() -> None:
    plan, _, roles = GOOD["encoder"]
    assert plan_problems(plan, MODEL, {"target": roles["target"]})
    assert plan_problems(plan, MODEL, roles | {"target": TARGET})
    assert plan_problems(plan, replace(MODEL, decoder_start_token_id=None), roles)


def test_a_cache_beyond_all_memory_is_refused() -> None:
    huge = replace(TARGET, states=(replace(STATE, kv_heads=1 << 16, head_dim=1 << 16),))
    (found,) = shape_problems(ngram(3), MODEL, replace(ROUNDS, batch=1024), {"target": huge}, {"target": huge})
    assert "do not fit" in found


def test_a_build_has_the_roles_of_its_bundle() -> None:
    plan, shapes, roles = GOOD["encoder"]
    found = shape_problems(plan, MODEL, shapes, {"target": TARGET}, roles)
    assert any("the bundle has encoder, target" in problem for problem in found)
