"""The widths of roles that draft whole blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ptgc.compiler.build.profiles import shape_plan
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.fitting import shape_problems
from ptgc.spec.kv_cache import LayerState, StateKind
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import DType
from ptgc.spec.role import Role
from ptgc.spec.strategies.dflash import dflash
from ptgc.spec.strategies.pard import pard
from ptgc.spec.tree import TreeSpec

MODEL = ModelFacts("x", 32, 256)
TARGET = Role(
    "target.onnx",
    ports.CAUSAL_INPUTS,
    (ports.logits(32, DType.FLOAT32), ports.NEXT_IDS),
    (LayerState(StateKind.FULL, 2, 8, DType.FLOAT32),),
    attention=AttentionKind.TREE,
)
STATES = ports.hidden_states(16, DType.FLOAT32)
READER = replace(TARGET, inputs=(*TARGET.inputs, STATES), attention=AttentionKind.BLOCK)
TREE = TreeSpec.branching(2, 2, 1)


@pytest.mark.parametrize(
    ("plan", "rows", "narrowest", "widths"),
    [
        (dflash(8, 3), 8, 9, {9, 10, 12, 16, 32}),
        (dflash(16, 3, 4), 5, 17, {17, 20, 24, 32, 64}),
        (dflash(8, 3, tree=TREE), 4, 9, {9, 16}),
        (pard(3, 8), 8, 1, {1, 4, 8, 9, 16}),
        (pard(3, tree=TREE), 3, 1, {1, 2, 3, 6}),
    ],
)
def test_a_round_of_a_block_fits_a_width_closely(plan: DecodePlan, rows: int, narrowest: int, widths: set[int]) -> None:
    reads = bool(plan.drafter.taps)
    roles = {
        "target": replace(TARGET, outputs=(*TARGET.outputs, STATES)) if reads else TARGET,
        "drafter": READER if reads else TARGET,
    }
    shapes = shape_plan(plan, MODEL, 64, 1, pays_for_capacity=False, roles=roles)
    own = shapes.roles["drafter"]
    assert own.verify_width == rows
    assert widths <= set(own.widths)
    assert own.widths[0] == 1 and list(own.widths) == sorted(set(own.widths))
    assert min(width for width in own.widths if width > 1 or narrowest == 1) == narrowest
    assert shape_problems(plan, MODEL, shapes, roles, roles) == []
