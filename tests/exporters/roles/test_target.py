"""The canonical graph of every family against PyTorch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from ptgc.compiler.graph_session import GraphSession
from ptgc.exporters.roles.target import TracedTarget, trace_target
from ptgc.graphs.piece import MODULE_KEY
from ptgc.graphs.storage import save, serialize
from ptgc.spec.bundle import open_bundle
from ptgc.spec.role import Role
from ptgc.spec.tree import TreeSpec
from tests.bundles import tiny_bundle
from tests.models import FAMILIES, MORE_FAMILIES, prompt, tiny_model

ROPES = ("linear", "dynamic", "yarn", "longrope", "llama3")
TREE = TreeSpec((-1, 0, 0, 1, 1, 2, 3, 3))


@cache
def _traced(family: str) -> TracedTarget:
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


def test_a_kept_branch_goes_on_as_if_it_had_been_a_chain(tmp_path: Path) -> None:
    """Verify a tree, keep the path 0-1-4, and the next round equals PyTorch on the plain text."""
    import onnxruntime

    traced = _traced("llama")
    save(traced.model, tmp_path, "target")
    save(traced.commit_model, tmp_path, "commit")
    role = Role("target.onnx", traced.inputs, traced.outputs, traced.states)
    session = GraphSession(tmp_path / "target.onnx", role, capacity=64)
    prefix, nodes, path = prompt(11), prompt(8, seed=1), [0, 1, 4]
    session.prefill(prefix)
    session.forward(nodes, TREE)
    commit = onnxruntime.InferenceSession(str(tmp_path / "commit.onnx"), providers=["CPUExecutionProvider"])
    start = session.length
    feeds = {name: buffer.numpy() for name, (_, buffer) in session.caches.items()}
    feeds |= {"keep_rows": np.array([[start + node for node in path]]), "write_index": np.array([start])}
    moved = commit.run(None, feeds)
    names = [value.name for value in commit.get_outputs()]
    for present, buffer in session.caches.values():
        buffer.numpy()[...] = moved[names.index(present)]
    session.commit(len(path))
    text = prefix + [nodes[node] for node in path] + [42]
    with torch.no_grad():
        expected = tiny_model("llama")(torch.tensor([text])).logits[0, -1].numpy()
    np.testing.assert_allclose(session.forward([42])[0], expected, atol=2e-3, rtol=1e-4)


def test_half_precision_checkpoints_keep_their_type() -> None:
    import copy

    model = copy.deepcopy(tiny_model("llama")).to(torch.bfloat16)
    traced = trace_target(model)
    matrices = [v for v in traced.model.graph.initializers.values() if v.shape is not None and len(v.shape) == 2]
    assert matrices and all(value.dtype is ir.DataType.BFLOAT16 for value in matrices)
    assert traced.outputs[0].dtype.value == "bfloat16"
