"""A denoiser over a cache of blocks: its graph, and the loop in numpy, against plain PyTorch without a cache."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from ptgc.compiler.build.profiles import shape_plan
from ptgc.compiler.checking.loops import runner
from ptgc.errors import ExportError
from ptgc.exporters import export
from ptgc.exporters.roles.base import TracedRole
from ptgc.graphs.reference_loops import write
from ptgc.graphs.storage import save
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.bundle import open_bundle
from ptgc.spec.canvas import CanvasCache, CanvasPlan, PolicyPlan
from ptgc.spec.fitting import shape_problems
from ptgc.spec.kv_cache import StateKind
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.plan import DecodePlan
from ptgc.spec.role_ports import role_problems
from tests.block_diffusion import BLOCK_DIFFUSION, diffuse_blocks, tiny_block_diffusion
from tests.exporters.graph_run import trace_all
from tests.originals import original_text

assert BLOCK_DIFFUSION.canvas is not None
CANVAS = BLOCK_DIFFUSION.canvas
MASK = CANVAS.mask_token_id
PROMPTS = [[5, 9, 30, 31, 8, 7], [6] * 8, [1, 2, 4]]
COUNT = 13


def _plan(canvas: CanvasPlan = CANVAS) -> DecodePlan:
    return replace(BLOCK_DIFFUSION, canvas=canvas)


@cache
def _traced() -> TracedRole:
    return trace_all({"denoiser": tiny_block_diffusion()}, _plan())["denoiser"]


@pytest.mark.parametrize("policy", [PolicyPlan(), PolicyPlan(threshold=0.3)], ids=["steps", "threshold"])
def test_blocks_over_a_cache_are_filled_as_the_whole_text_is_without(policy: PolicyPlan, tmp_path: Path) -> None:
    plan = _plan(replace(CANVAS, policy=policy))
    assert plan.canvas is not None
    save(_traced().model, tmp_path, "denoiser")
    denoiser = runner(tmp_path / "denoiser.onnx", _traced().states, 32)
    for prompt in PROMPTS:
        count = COUNT + -(len(prompt) + COUNT) % plan.canvas.block_length  # whole blocks
        expected = diffuse_blocks(prompt, count, plan.canvas)
        given = prompt + [MASK] * count
        graph = write({"denoiser": denoiser}, plan, given, 0)
        original = original_text({"denoiser": tiny_block_diffusion()}, plan, given)
        assert graph.token_ids == original.token_ids == prompt + expected
        assert graph.rounds == original.rounds


def test_the_graph_keeps_blocks_whose_rows_see_each_other() -> None:
    role = _traced()
    states = [port.name for layer, state in enumerate(role.states) for port in state.past_ports(layer)]
    assert [value.name for value in role.model.graph.inputs] == [*(port.name for port in role.inputs), *states]
    assert role.attention is not None and role.attention.value == "block" and len(role.states) == 2
    assert [port.name for port in role.outputs] == ["output_ids", "num_masked", "confidence"]
    assert [port.shape for port in role.outputs] == [("batch", "num_logits"), ("batch",), ("batch", "num_logits")]


def test_a_bundle_says_that_it_needs_a_cache_of_blocks(tmp_path: Path) -> None:
    bundle = open_bundle(export({"denoiser": tiny_block_diffusion()}, _plan(), tmp_path / "b"))
    assert {"canvas-loop", "kv-cache-full", "block-cache"} <= set(bundle.manifest.features)


def test_a_cache_of_blocks_needs_a_length_states_and_rows_that_see_each_other(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="block_length is 0; cache is block"):
        export({"denoiser": tiny_block_diffusion()}, _plan(replace(CANVAS, block_length=0)), tmp_path / "b")
    role = _traced().role("denoiser.onnx")
    assert not role_problems(_plan(), {"denoiser": role})
    for changed in (replace(role, states=(), attention=None), replace(role, attention=AttentionKind.TREE)):
        assert any("must be block, with states" in one for one in role_problems(_plan(), {"denoiser": changed}))
    mask = replace(ports.TREE_MASK, shape=(ports.BATCH, ports.NUM_TOKENS, ports.NUM_TOKENS))
    inputs = tuple(mask if port.name == mask.name else port for port in role.inputs)
    assert any(
        "'tree_mask' another type or shape" in one
        for one in role_problems(_plan(), {"denoiser": replace(role, inputs=inputs)})
    )
    assert not role_problems(_plan(replace(CANVAS, cache=CanvasCache.NONE)), {"denoiser": role})


def test_rounds_over_a_cache_of_blocks_hold_a_block() -> None:
    roles = {"denoiser": _traced().role("denoiser.onnx")}
    facts = ModelFacts("tiny", 64, 64)
    shapes = shape_plan(_plan(), facts, 40, 3, pays_for_capacity=False, roles=roles)
    assert shapes.roles["denoiser"].widths == (4, 8, 16, 32, 64, 128)
    longer = _plan(replace(CANVAS, block_length=129))
    said = "shapes.roles.denoiser.widths ends with 128; plan.canvas.block_length is 129"
    assert not shape_problems(_plan(), facts, shapes, roles, roles)
    assert said in shape_problems(longer, facts, shapes, roles, roles)


def test_caches_that_approximate_have_no_windows_and_hold_whole_texts() -> None:
    role = _traced().role("denoiser.onnx")
    plan = _plan(replace(CANVAS, cache=CanvasCache.DUAL))
    assert not role_problems(plan, {"denoiser": role})
    windows = replace(role, states=(replace(role.states[0], kind=StateKind.WINDOW, window=8), *role.states[1:]))
    assert any("sliding windows" in one for one in role_problems(plan, {"denoiser": windows}))
    shapes = shape_plan(plan, ModelFacts("tiny", 64, 64), 40, 1, pays_for_capacity=False, roles={"denoiser": role})
    assert shapes.roles["denoiser"].widths == (4, 32, 40)
    for changes, said in (
        ({"widths": (4, 32)}, "widths ends with 32; rounds read whole texts, of up to 40 tokens"),
        ({"verify_width": 3}, "verify_width is 3; rounds fill up to 4 positions"),
    ):
        changed = replace(shapes, roles={"denoiser": replace(shapes.roles["denoiser"], **changes)})
        found = shape_problems(plan, ModelFacts("tiny", 64, 64), changed, {"denoiser": role}, {"denoiser": role})
        assert any(said in one for one in found)
