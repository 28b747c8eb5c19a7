"""The canonical graph of every family against PyTorch."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from ptgc.compiler.graph_session import GraphSession
from ptgc.errors import ExportError
from ptgc.exporters.roles.base import TracedRole
from ptgc.exporters.roles.target import Verify, trace_target
from ptgc.exporters.tracing.probe import probe_layers
from ptgc.exporters.tracing.rehearsal import rehearse
from ptgc.graphs.piece import MODULE_KEY
from ptgc.graphs.storage import save, serialize
from ptgc.spec.attention import AttentionKind
from ptgc.spec.bundle import open_bundle
from ptgc.spec.tree import TreeSpec
from tests.bundles import tiny_bundle
from tests.models import FAMILIES, MORE_FAMILIES, prompt, tiny_model

ROPES = ("linear", "dynamic", "yarn", "longrope", "llama3")
TREE = TreeSpec((-1, 0, 0, 1, 1, 2, 3, 3))


@cache
def _traced(family: str) -> TracedRole:
    return trace_target(tiny_model(family))


@pytest.fixture
def session(family: str, place: Path) -> GraphSession:
    bundle = open_bundle(tiny_bundle(place, family))
    role = bundle.manifest.roles["target"]
    return GraphSession(bundle.path / role.graph, role, capacity=96)


@torch.no_grad()
def _tree_logits(family: str, prefix: list[int], nodes: list[int], tree: TreeSpec) -> np.ndarray:
    """Eager PyTorch on prefix and tree, with the whole mask written out."""
    model = tiny_model(family)
    past, count = len(prefix), tree.num_nodes
    whole = torch.zeros(past + count, past + count, dtype=torch.bool)
    whole[:past, :past] = torch.tril(torch.ones(past, past, dtype=torch.bool))
    whole[past:, :past] = True
    whole[past:, past:] = torch.tensor(tree.ancestors())
    positions = torch.tensor([*range(past), *(past + depth for depth in tree.depths)])
    near = positions[:, None] - positions[None] < (getattr(model.config, "sliding_window", None) or past + count)
    masks = {
        kind: torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None]
        for kind, seen in (("full_attention", whole), ("sliding_attention", whole & near))
    }
    several = len(set(getattr(model.config, "layer_types", None) or ())) > 1
    out = model(
        input_ids=torch.tensor([prefix + nodes]),
        attention_mask=masks if several else masks["sliding_attention"],
        position_ids=positions[None],
        use_cache=False,
    )
    return out.logits[0, past:].numpy()


@pytest.mark.parametrize("family", FAMILIES + MORE_FAMILIES)
def test_a_tree_over_a_prefix_gives_the_logits_of_pytorch(family: str, session: GraphSession) -> None:
    prefix, nodes = prompt(37), prompt(8, seed=1)
    session.prefill(prefix, chunk=16)
    found = session.forward(nodes, TREE)
    np.testing.assert_allclose(found, _tree_logits(family, prefix, nodes, TREE), atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_attention_and_rotary_are_standard_operators(family: str, place: Path) -> None:
    graph = ir.load(tiny_bundle(place, family) / "graphs" / "target.onnx").graph
    types = [node.op_type for node in graph]
    assert {node.domain for node in graph} == {""}
    assert types.count("Attention") == 3 and types.count("TensorScatter") == 6
    assert types.count("RotaryEmbedding") == (0 if family == "gpt2" else 6)
    assert types.count("LayerNormalization" if family == "gpt2" else "RMSNormalization") >= 7


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "phi3", "cohere", "cohere2"])
def test_norms_with_an_offset_and_other_rotations_are_standard_operators_too(family: str, place: Path) -> None:
    graph = ir.load(tiny_bundle(place, family) / "graphs" / "target.onnx").graph
    types = [node.op_type for node in graph]
    rotated_layers = 1 if family == "cohere2" else 2  # its full layers have no positions
    assert types.count("RotaryEmbedding") == 2 * rotated_layers
    assert types.count("RMSNormalization") >= (0 if "cohere" in family else 5)


def test_a_text_ends_where_rotary_frequencies_change(place: Path) -> None:
    contexts = {name: open_bundle(tiny_bundle(place, f"llama-{name}")).manifest.model.context_length for name in ROPES}
    assert contexts == {"linear": 1024, "dynamic": 1024, "yarn": 1024, "llama3": 1024, "longrope": 640}


def test_every_node_knows_its_module() -> None:
    graph = _traced("llama").model.graph
    assert all(MODULE_KEY in node.metadata_props for node in graph)
    attention = next(node for node in graph if node.op_type == "Attention")
    assert attention.metadata_props[MODULE_KEY] == "model.layers.0.self_attn"


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    model = tiny_model("llama")
    traced = trace_target(model)
    save(traced.model, tmp_path, "target")
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert (tmp_path / "target.data").stat().st_size < 1.03 * weights + 4096 * len(traced.model.graph.initializers)
    assert model.lm_head.weight is model.model.embed_tokens.weight  # type: ignore[union-attr]


def test_the_same_model_gives_the_same_bytes() -> None:
    one, other = trace_target(tiny_model("qwen2")).model, trace_target(tiny_model("qwen2")).model
    for value in (*one.graph.initializers.values(), *other.graph.initializers.values()):
        assert value.const_value is not None
    assert serialize(one) == serialize(other)


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = tiny_model("llama")
    ids = torch.tensor([prompt(9)])
    with torch.no_grad():
        before = model(ids).logits
        trace_target(model)
        after = model(ids).logits
    assert torch.equal(before, after)
    assert model.config._attn_implementation in ("sdpa", "eager")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_a_tree_run_depth_by_depth_gives_the_logits_of_pytorch(family: str, tmp_path: Path) -> None:
    traced = trace_target(tiny_model(family), AttentionKind.TREE, mask_extra=7)
    save(traced.model, tmp_path, "target")
    session = GraphSession(tmp_path / "target.onnx", traced.role("target.onnx"), capacity=64)
    prefix, nodes = prompt(37), prompt(8, seed=1)
    session.prefill(prefix, chunk=16)
    parts = [session.forward(nodes[first:end], TREE, first) for first, end in ((0, 1), (1, 3), (3, 6), (6, 8))]
    expected = _tree_logits(family, prefix, nodes, TREE)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(session.forward(nodes, TREE), expected, atol=2e-3, rtol=1e-4)


def test_a_tree_that_may_reach_behind_a_window_is_refused() -> None:
    window = tiny_model("gemma3").config.sliding_window
    with pytest.raises(ExportError, match=f"attends to the last {window} tokens"):
        trace_target(tiny_model("gemma3"), AttentionKind.TREE, mask_extra=window)


@pytest.mark.parametrize(
    ("attention", "mask_extra"), [(AttentionKind.CAUSAL, 0), (AttentionKind.TREE, 7), (AttentionKind.BLOCK, 0)]
)
def test_a_model_that_attends_by_the_order_of_rows_is_refused_where_rows_are_no_text(
    attention: AttentionKind, mask_extra: int
) -> None:
    """A model that counts positions from the first row's, whatever positions it is given."""
    model = copy.deepcopy(tiny_model("llama"))
    rotary, forward = model.model.rotary_emb, model.model.rotary_emb.forward

    def in_order(x: torch.Tensor, position_ids: torch.Tensor) -> Any:
        return forward(x, position_ids[:, :1] + torch.arange(position_ids.shape[1]))

    rotary.forward = in_order  # type: ignore[method-assign]
    layers = probe_layers(model)
    verify = Verify(model, layers).eval()
    if attention is AttentionKind.TREE:
        with pytest.raises(ExportError, match="read in rounds over a cache"):
            rehearse(verify, model, layers, attention, mask_extra)
    else:
        rehearse(verify, model, layers, attention, mask_extra)


def test_a_model_whose_rows_see_only_what_is_before_them_is_no_block() -> None:
    """The rehearsal of a kind uses masks of that kind."""
    model = tiny_model("llama")
    layers = probe_layers(model)
    verify = Verify(model, layers).eval()

    def in_order(ids: Any, positions: Any, slots: Any, rows: Any, masks: Any, *caches: Any) -> Any:
        start, count, capacity = int(slots[0]), ids.shape[1], masks[0].shape[-1]
        seen = torch.arange(capacity) <= torch.arange(start, start + count)[:, None]
        return verify(ids, positions, slots, rows, [mask & seen for mask in masks], *caches)

    for attention in AttentionKind:
        if attention is AttentionKind.BLOCK:
            with pytest.raises(ExportError, match="read in rounds over a cache"):
                rehearse(in_order, model, layers, attention)
        else:
            rehearse(in_order, model, layers, attention)


def test_half_precision_checkpoints_keep_their_type() -> None:
    model = copy.deepcopy(tiny_model("llama")).to(torch.bfloat16)
    traced = trace_target(model)
    matrices = [v for v in traced.model.graph.initializers.values() if v.shape is not None and len(v.shape) == 2]
    assert matrices and all(value.dtype is ir.DataType.BFLOAT16 for value in matrices)
    assert traced.outputs[0].dtype.value == "bfloat16"
