"""A manifest and a build that are each well-formed may still contradict each other, loop by loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.edit import EditStart
from ptgc.spec.fitting import plan_problems, shape_problems
from ptgc.spec.kv_cache import LayerState, SharedLayer, StateKind
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import DType, Port
from ptgc.spec.role import Role
from ptgc.spec.shapes import RoleShapes, ShapePlan
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.dflash import dflash
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.eagle3 import eagle3
from ptgc.spec.strategies.levenshtein import levenshtein
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.medusa import medusa
from ptgc.spec.strategies.mtp import mtp
from ptgc.spec.strategies.ngram import ngram
from ptgc.spec.strategies.pard import pard
from ptgc.spec.strategies.recycling import recycling
from ptgc.spec.tree import TreeSpec

VOCAB = 10
MODEL = ModelFacts("x", VOCAB, 64, decoder_start_token_id=1)
STATE = LayerState(StateKind.FULL, 2, 8, DType.FLOAT32)
WINDOW = replace(STATE, kind=StateKind.WINDOW, window=24)
CROSS = replace(STATE, kind=StateKind.CROSS)
HIDDEN = ports.encoder_hidden_states(16, DType.FLOAT32)
READER = Role("encoder.onnx", (ports.SOURCE_IDS, ports.ENCODER_ATTENTION_MASK), (HIDDEN,))
TARGET = Role(
    "target.onnx",
    ports.CAUSAL_INPUTS,
    (ports.logits(VOCAB, DType.FLOAT32), ports.NEXT_IDS),
    (STATE,),
    attention=AttentionKind.CAUSAL,
)
OPERATION = Role("x.onnx", (ports.CANVAS_IDS, ports.LENGTHS, HIDDEN), (ports.OUTPUT_IDS, ports.OUTPUT_LENGTHS))
ROUNDS = RoleShapes((1, 2, 8), 4, (72,))
READ = RoleShapes((), 0, (), source_lengths=(32, 64))
CANVAS = RoleShapes((), 0, (), canvas_lengths=(32, 64))
EDITED = replace(READ, canvas_lengths=(32, 64))
LEVENSHTEIN = levenshtein(3, 1, 2, 0)
assert LEVENSHTEIN.edit is not None
EDIT = LEVENSHTEIN.edit

SHARED = replace(STATE, shared_with=SharedLayer("target", 0))

GOOD: dict[str, tuple[DecodePlan, dict[str, RoleShapes], dict[str, Role]]] = {
    "speculative": (ngram(3), {"target": ROUNDS}, {"target": TARGET}),
    "window": (
        ngram(3),
        {"target": replace(ROUNDS, window_capacities={24: 39})},
        {"target": replace(TARGET, states=(STATE, WINDOW), inputs=(*TARGET.inputs, ports.WINDOW_OFFSET))},
    ),
    "drafter": (
        draft_model(3),
        {"target": ROUNDS, "drafter": RoleShapes((1, 4), 1, (68,))},
        {"target": TARGET, "drafter": TARGET},
    ),
    "shared": (
        draft_model(3),
        {"target": ROUNDS, "drafter": RoleShapes((1, 4), 1, (72,))},
        {"target": replace(TARGET, states=(STATE, STATE)), "drafter": replace(TARGET, states=(SHARED, STATE))},
    ),
    "encoder": (
        ngram(3),
        {"target": replace(ROUNDS, source_lengths=(64,)), "encoder": replace(READ, source_lengths=(64,))},
        {
            "target": replace(TARGET, cross_states=(CROSS,), inputs=(*TARGET.inputs, ports.ENCODER_ATTENTION_MASK)),
            "encoder": replace(READER, outputs=(), cross_states=(CROSS,)),
        },
    ),
    "canvas": (
        masked_diffusion(3, block_length=64),
        {"denoiser": CANVAS},
        {
            "denoiser": Role(
                "denoiser.onnx",
                (ports.CANVAS_IDS, ports.LENGTHS, ports.CANVAS_MASK, ports.STEP, ports.THRESHOLD),
                (ports.OUTPUT_IDS, ports.NUM_MASKED, ports.CONFIDENCE),
            )
        },
    ),
    "edit": (
        LEVENSHTEIN,
        {"encoder": READ, "deleter": EDITED, "inserter": EDITED, "filler": EDITED},
        {"encoder": READER, "deleter": OPERATION, "inserter": OPERATION, "filler": OPERATION},
    ),
    "one-shot": (
        ctc(0, 2),
        {"encoder": READ, "decoder": replace(READ, canvas_lengths=(64, 128))},
        {"encoder": READER, "decoder": Role("decoder.onnx", (HIDDEN,), (ports.OUTPUT_IDS, ports.OUTPUT_LENGTHS))},
    ),
}


def problems(name: str, role: str = "", *, plan: DecodePlan | None = None, **changes: Any) -> str:
    """The problems of a good build under another plan, or with other shapes of a role."""
    its_plan, shapes, roles = GOOD[name]
    changed = shapes | ({role: replace(shapes[role], **changes)} if role else {})
    return "; ".join(shape_problems(plan or its_plan, MODEL, ShapePlan(1, 64, changed), roles, roles))


@pytest.mark.parametrize("name", list(GOOD))
def test_what_the_compiler_writes_fits(name: str) -> None:
    assert not problems(name)


@pytest.mark.parametrize(
    ("name", "role", "changes", "said"),
    [
        ("speculative", "target", {"widths": ()}, "target.widths is empty; the role's ports have num_tokens"),
        ("speculative", "target", {"widths": (2, 4)}, "target.widths must ascend from 1"),
        ("speculative", "target", {"verify_width": 0}, "target.verify_width is 0"),
        ("speculative", "target", {"verify_width": 9}, "target.verify_width is 9"),
        ("speculative", "target", {"verify_width": 2}, "verify_width is 2; plan.tree has 4 nodes"),
        ("speculative", "target", {"kv_capacities": ()}, "target.kv_capacities is empty"),
        ("speculative", "target", {"kv_capacities": (71,)}, "largest width, 72"),
        ("speculative", "target", {"kv_capacities": (4, 72)}, "hold the largest width, 8"),
        ("speculative", "target", {"source_lengths": (4,)}, "target.source_lengths is given, and no port"),
        ("speculative", "target", {"canvas_lengths": (64,)}, "target.canvas_lengths is given, and no port"),
        ("drafter", "drafter", {"kv_capacities": (67,)}, "drafter.kv_capacities must reach"),
        ("drafter", "drafter", {"widths": (2, 4)}, "drafter.widths must ascend from 1"),
        ("window", "target", {"window_capacities": {}}, "lacks the window of 24"),
        ("window", "target", {"window_capacities": {24: 30}}, "window_capacities.24 is 30; it must be at least 31"),
        ("shared", "drafter", {"kv_capacities": (73,)}, "drafter.kv_capacities is not that of 'target', whose cache"),
        ("shared", "target", {"window_capacities": {24: 39}}, "drafter.window_capacities is not that of 'target'"),
        ("encoder", "target", {"source_lengths": ()}, "target.source_lengths is empty"),
        ("encoder", "encoder", {"source_lengths": ()}, "encoder.source_lengths is empty"),
        ("encoder", "encoder", {"source_lengths": (32,)}, "source_lengths is not that of"),
        ("encoder", "encoder", {"widths": (1,)}, "encoder.widths is given, and no port of the role has num_tokens"),
        ("canvas", "denoiser", {"canvas_lengths": ()}, "denoiser.canvas_lengths is empty"),
        ("canvas", "denoiser", {"canvas_lengths": (32,)}, "texts have up to 64"),
        ("edit", "filler", {"canvas_lengths": (63,)}, "texts have up to 64"),
        ("edit", "filler", {"canvas_lengths": (64,)}, "filler.canvas_lengths is not that of 'deleter'"),
        ("edit", "encoder", {"source_lengths": ()}, "encoder.source_lengths is empty"),
        ("one-shot", "decoder", {"source_lengths": ()}, "decoder.source_lengths is empty"),
        ("one-shot", "decoder", {"canvas_lengths": (64, 127)}, "source_lengths times 2"),
    ],
)
def test_sizes_that_a_role_needs_are_asked_for(name: str, role: str, changes: dict[str, Any], said: str) -> None:
    assert said in problems(name, role, **changes)


@pytest.mark.parametrize("name", list(GOOD))
def test_every_role_has_shapes_and_nothing_else_has(name: str) -> None:
    plan, shapes, roles = GOOD[name]
    for role in roles:
        rest = {other: own for other, own in shapes.items() if other != role}
        found = shape_problems(plan, MODEL, ShapePlan(1, 64, rest), roles, roles)
        assert f"shapes.roles lacks '{role}'" in found
    more = ShapePlan(1, 64, shapes | {"oracle": ROUNDS})
    assert shape_problems(plan, MODEL, more, roles, roles) == [
        "shapes.roles has 'oracle', which is no role of the build"
    ]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (replace(STATE, shared_with=SharedLayer("oracle", 0)), "layer 0 of 'oracle', which is no other role"),
        (replace(STATE, shared_with=SharedLayer("drafter", 1)), "layer 1 of 'drafter', which is no other role"),
        (replace(STATE, shared_with=SharedLayer("target", 2)), "layer 2 of 'target', which has 2 layers"),
        (replace(SHARED, kv_heads=1), "another kind, shape or type"),
        (replace(SHARED, head_dim=4), "another kind, shape or type"),
        (replace(SHARED, dtype=DType.FLOAT16), "another kind, shape or type"),
        (replace(SHARED, kind=StateKind.WINDOW, window=24), "another kind, shape or type"),
    ],
)
def test_a_shared_layer_is_one_of_the_same_form_that_another_role_owns(state: LayerState, said: str) -> None:
    plan, _, roles = GOOD["shared"]
    changed = roles | {"drafter": replace(TARGET, states=(state, STATE))}
    (found,) = plan_problems(plan, MODEL, changed)
    assert found.startswith("roles.drafter.states[0].shared_with is") and said in found


def test_a_layer_is_not_shared_twice_over() -> None:
    plan, _, roles = GOOD["shared"]
    mutual = replace(TARGET, states=(replace(STATE, shared_with=SharedLayer("drafter", 0)), STATE))
    found = plan_problems(plan, MODEL, roles | {"target": mutual})
    assert len(found) == 2 and all("which shares another's cache itself" in one for one in found)


def test_a_shared_cache_takes_memory_once() -> None:
    large = replace(STATE, kv_heads=1 << 15, head_dim=1 << 16)  # a role accepts only one
    shared = replace(large, shared_with=SharedLayer("target", 0))
    plan, shapes, _ = GOOD["shared"]

    def found(*states: LayerState) -> list[str]:
        roles = {"target": replace(TARGET, states=(large,)), "drafter": replace(TARGET, states=states)}
        return shape_problems(plan, MODEL, ShapePlan(40, 64, shapes), roles, roles)

    assert not found(shared, large)
    assert "roles.drafter: caches of" in "; ".join(found(large, large))


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("canvas", masked_diffusion(VOCAB)),
        ("one-shot", ctc(VOCAB, 2)),
        ("edit", levenshtein(VOCAB, 1, 2, 0)),
        ("edit", replace(LEVENSHTEIN, edit=replace(EDIT, stop_token_id=VOCAB))),
        ("edit", levenshtein(3, 1, 2, 1 << 23)),
    ],
)
def test_a_foreign_token_is_refused(name: str, plan: DecodePlan) -> None:
    assert "must be below vocab_size, 10" in problems(name, plan=plan)


def test_a_source_of_other_tokens_cannot_be_edited() -> None:
    plan = replace(LEVENSHTEIN, edit=replace(EDIT, start=EditStart.SOURCE))
    _, _, roles = GOOD["edit"]
    assert not plan_problems(plan, MODEL, roles)
    found = plan_problems(plan, replace(MODEL, source_vocab_size=VOCAB + 1), roles)
    assert found == ["plan.edit.start is source, of 11 tokens; model.vocab_size is 10"]


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
        replace(STATE, kind=StateKind.CROSS),
        replace(STATE, dtype=DType.INT64),
        replace(STATE, kind=StateKind.WINDOW),
    ],
)
def test_a_state_that_nothing_runs_is_refused(state: LayerState) -> None:
    found = plan_problems(ngram(3), MODEL, {"target": replace(TARGET, states=(state,))})
    assert "roles.target.states[0]" in found[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": None},
        {"mask_extra": 3},
        {"states": ()},
        {"attention": AttentionKind.TREE, "states": ()},
    ],
)
def test_attention_is_stated_where_there_is_a_cache(changes: dict[str, Any]) -> None:
    found = plan_problems(ngram(3), MODEL, {"target": replace(TARGET, **changes)})
    assert len(found) == 1 and ("attention" in found[0] or "mask_extra" in found[0])


def test_a_tree_needs_a_target_that_takes_trees() -> None:
    plan = replace(ngram(3), tree=TreeSpec((-1, 0, 0, 1)))
    (found,) = plan_problems(plan, MODEL, {"target": TARGET})
    assert "roles.target.attention is causal" in found
    assert plan_problems(plan, MODEL, {"target": replace(TARGET, attention=AttentionKind.TREE, mask_extra=3)}) == []


TAPPED = ports.hidden_states(16, DType.FLOAT32)
HEADS = Role("heads.onnx", (ports.tapped(TAPPED),), (ports.draft_ids(3),))


@pytest.mark.parametrize(
    ("target", "heads", "said"),
    [
        (TARGET.outputs, HEADS, "reads hidden_states, which roles.target does not give"),
        ((*TARGET.outputs, ports.hidden_states(8, DType.FLOAT32)), HEADS, "of another type or size"),
        ((*TARGET.outputs, TAPPED), replace(HEADS, outputs=(ports.draft_ids(4),)), "gives 4 drafts; plan.tree has 3"),
    ],
)
def test_a_drafter_reads_what_its_target_gives(target: tuple[Port, ...], heads: Role, said: str) -> None:
    plan = medusa(TreeSpec((-1, 0, 0, 1)))
    tree = replace(TARGET, outputs=target, attention=AttentionKind.TREE)
    found = plan_problems(plan, MODEL, {"target": tree, "heads": heads})
    assert [one for one in found if said in one] == found
    good = replace(tree, outputs=(*TARGET.outputs, TAPPED))
    assert plan_problems(plan, MODEL, {"target": good, "heads": HEADS}) == []


CARRIED = ports.carried_states(16, DType.FLOAT32)
STATE_READER = replace(TARGET, inputs=(*TARGET.inputs, TAPPED), outputs=(*TARGET.outputs, CARRIED))


@pytest.mark.parametrize(
    ("drafter", "said"),
    [
        (replace(STATE_READER, inputs=TARGET.inputs), "roles.drafter does not read hidden_states"),
        (replace(STATE_READER, outputs=TARGET.outputs), "lacks 'carried_states'"),
        (
            replace(STATE_READER, outputs=(*TARGET.outputs, ports.carried_states(8, DType.FLOAT32))),
            "reads hidden_states of another type or size",
        ),
        (
            replace(STATE_READER, inputs=(*TARGET.inputs, ports.hidden_states(16, DType.FLOAT16))),
            "reads hidden_states of another type or size",
        ),
    ],
)
def test_a_drafter_carries_on_what_it_reads(drafter: Role, said: str) -> None:
    target = replace(TARGET, outputs=(*TARGET.outputs, TAPPED))
    assert plan_problems(eagle3(3), MODEL, {"target": target, "drafter": STATE_READER}) == []
    found = plan_problems(eagle3(3), MODEL, {"target": target, "drafter": drafter})
    assert found and all(said in one for one in found)


BLOCK_READER = replace(STATE_READER, outputs=TARGET.outputs, attention=AttentionKind.BLOCK)


@pytest.mark.parametrize(
    ("plan", "drafter", "said"),
    [
        (dflash(4, VOCAB), BLOCK_READER, f"mask_token_id is {VOCAB}; roles.drafter has {VOCAB} tokens"),
        (dflash(4, 2), STATE_READER, "has 'carried_states', which this role has not"),
        (dflash(4, 2), replace(BLOCK_READER, attention=AttentionKind.TREE), "attention must be block"),
        (dflash(4, 2), replace(BLOCK_READER, inputs=TARGET.inputs), "roles.drafter does not read hidden_states"),
        (pard(VOCAB, 3), TARGET, f"mask_token_id is {VOCAB}; roles.drafter has {VOCAB} tokens"),
        (pard(2, 3), BLOCK_READER, "has 'hidden_states', which this role has not"),
        (mtp(num_layers=3), STATE_READER, "has 'carried_states', which this role has not"),
        (mtp(num_layers=3), TARGET, "roles.drafter does not read hidden_states"),
    ],
)
def test_a_drafter_of_blocks_knows_its_mask(plan: DecodePlan, drafter: Role, said: str) -> None:
    target = replace(TARGET, outputs=(*TARGET.outputs, TAPPED))
    assert plan_problems(dflash(4, 2), MODEL, {"target": target, "drafter": BLOCK_READER}) == []
    assert plan_problems(pard(2, 3), MODEL, {"target": TARGET, "drafter": TARGET}) == []
    layers = replace(BLOCK_READER, attention=AttentionKind.CAUSAL)
    assert plan_problems(mtp(num_layers=3), MODEL, {"target": target, "drafter": layers}) == []
    found = plan_problems(plan, MODEL, {"target": target, "drafter": drafter})
    assert found and any(said in one for one in found), found


def test_a_drafter_of_blocks_has_rounds_for_a_block() -> None:
    roles = {"target": TARGET, "drafter": TARGET}
    shapes = {"target": ROUNDS, "drafter": RoleShapes((1, 4), 3, (68,))}
    assert shape_problems(pard(2, 3), MODEL, ShapePlan(1, 64, shapes), roles, roles) == []
    narrow = shapes | {"drafter": RoleShapes((1, 2), 2, (66,))}
    assert shape_problems(pard(2, 3), MODEL, ShapePlan(1, 64, narrow), roles, roles) == [
        "shapes.roles.drafter.widths ends with 2; a run needs 3",
        "shapes.roles.drafter.verify_width is 2; a proposal needs 3",
    ]
    layers = {
        "target": replace(TARGET, outputs=(*TARGET.outputs, TAPPED)),
        "drafter": replace(BLOCK_READER, attention=AttentionKind.CAUSAL),
    }
    assert shape_problems(mtp(num_layers=3), MODEL, ShapePlan(1, 64, narrow), layers, layers) == [
        "shapes.roles.drafter.widths ends with 2; a run needs 3",
        "shapes.roles.drafter.verify_width is 2; a proposal needs 3",
    ]


def test_a_block_has_room_for_the_tree() -> None:
    assert dflash(4, 2, 3).problems() == [] and pard(2, 3).problems() == []
    assert "tree is 4 tokens deep; a run of the drafter drafts 3" in dflash(4, 2, 4).problems()
    assert "tree is 4 tokens deep; a run of the drafter drafts 3" in mtp(4, num_layers=3).problems()
    deep = dflash(2, 2, tree=TreeSpec((-1, 0, 1)))
    assert "tree is 2 tokens deep; a run of the drafter drafts 1" in deep.problems()


@pytest.mark.parametrize(
    "given", [(), (ports.top_ids(5),), (replace(ports.top_ids(4), dtype=DType.INT32),), (ports.top_ids(4),) * 2]
)
def test_a_target_gives_as_many_likely_tokens_as_its_drafter_reads(given: tuple[Port, ...]) -> None:
    plan = recycling(4, TreeSpec.chain(3))
    good = replace(TARGET, outputs=(*TARGET.outputs, ports.top_ids(4)))
    assert plan_problems(plan, MODEL, {"target": good}) == []
    found = plan_problems(plan, MODEL, {"target": replace(TARGET, outputs=(*TARGET.outputs, *given))})
    assert found and all("'top_ids'" in one for one in found)
    assert "'top_ids', which this role has not" in plan_problems(ngram(3), MODEL, {"target": good})[0]


def test_a_tree_has_no_more_children_than_there_are_candidates() -> None:
    assert recycling(3, TreeSpec.branching(3, 1)).problems() == []
    assert recycling(2, TreeSpec.branching(3, 1)).problems() == [
        "drafter.num_candidates is 2; a node of tree has 3 children"
    ]


def test_a_tree_comes_in_the_order_of_its_depths() -> None:
    problems = draft_model(tree=TreeSpec((-1, 0, 1, 0))).problems()
    assert any("in the order of their depths" in one for one in problems)


def test_a_target_and_its_encoder_belong_together() -> None:
    plan, _, roles = GOOD["encoder"]
    assert plan_problems(plan, MODEL, {"target": roles["target"]})
    assert plan_problems(plan, MODEL, roles | {"target": TARGET})
    assert plan_problems(plan, replace(MODEL, decoder_start_token_id=None), roles)


def test_a_cache_beyond_all_memory_is_refused() -> None:
    huge = replace(TARGET, states=(replace(STATE, kv_heads=1 << 16, head_dim=1 << 16),))
    shapes = ShapePlan(1024, 64, {"target": ROUNDS})
    (found,) = shape_problems(ngram(3), MODEL, shapes, {"target": huge}, {"target": huge})
    assert "do not fit" in found


def test_a_build_has_the_roles_of_its_bundle() -> None:
    plan, shapes, roles = GOOD["encoder"]
    found = shape_problems(plan, MODEL, ShapePlan(1, 64, shapes), {"target": TARGET}, roles)
    assert any("the bundle has encoder, target" in problem for problem in found)
