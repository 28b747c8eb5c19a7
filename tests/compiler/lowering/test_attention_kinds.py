"""Each kind of attention, lowered for the CPU: a round sees exactly what it sees in the canonical graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ptgc.compiler.graph_session import GraphSession
from ptgc.graphs.storage import save
from ptgc.spec.attention import AttentionKind
from ptgc.spec.role import Role
from ptgc.spec.tree import TreeSpec
from tests.compiler.prepared import CAPACITY, canonical, prepared, prepared_model, role_of, traced
from tests.exporters.graph_run import load
from tests.models import prompt

TREE = TreeSpec((-1, 0, 0, 1, 1, 2, 3, 3))
DEPTHS = ((0, 1), (1, 3), (3, 6), (6, 8))
"""Nodes of each depth: the first, and one past the last."""
FAMILIES = ["llama", "gpt2", "gemma3"]  # a rotary embedding, learned positions, windows


def _role(family: str, attention: AttentionKind, mask_extra: int = 0) -> Role:
    return replace(role_of(traced(family)), attention=attention, mask_extra=mask_extra)


def _tree_session(family: str, folder: Path, precision: str, batch: int = 1) -> GraphSession:
    return prepared(family, folder, precision, batch, _role(family, AttentionKind.TREE, TREE.num_nodes - 1))


def _by_depth(session: GraphSession, nodes: list[int]) -> np.ndarray:
    return np.concatenate([session.forward(nodes[first:end], TREE, first) for first, end in DEPTHS])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tree_run_at_once_or_depth_by_depth_gives_what_the_canonical_graph_gives(
    family: str, batch: int, tmp_path: Path
) -> None:
    one, other = canonical(family, tmp_path), _tree_session(family, tmp_path, "float32", batch)
    nodes = prompt(8, 1)
    for session in (one, other):
        session.prefill(prompt(37), chunk=16)
    expected = one.forward(nodes, TREE)
    np.testing.assert_allclose(_by_depth(other, nodes), expected, atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(other.forward(nodes, TREE), expected, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("mask_extra", [0, 7])
@pytest.mark.parametrize("attention", [AttentionKind.CAUSAL, AttentionKind.TREE, AttentionKind.BLOCK])
def test_every_kind_of_attention_pays_for_its_tokens_and_not_for_its_cache(
    attention: AttentionKind, mask_extra: int, batch: int, tmp_path: Path
) -> None:
    model, role = prepared_model("llama", tmp_path, batch=batch, role=_role("llama", attention, mask_extra))
    counts = Counter(node.op_type for node in model.graph)
    assert (counts["CachedAttention"], counts["Attention"]) == (3, 0)
    assert (role.attention, role.mask_extra) == (attention, mask_extra)
    assert ("tree_mask" in {port.name for port in role.inputs}) == (attention is not AttentionKind.CAUSAL)


def _in_order(rng: np.random.Generator, rows: int, slots: int, before: int) -> np.ndarray:
    """A random subset of the rows before, in this round or others."""
    return (rng.random((rows, slots)) < 0.6) & (np.arange(slots) <= before + np.arange(rows)[:, None])


def _both_ways(rng: np.random.Generator, rows: int, slots: int, before: int) -> np.ndarray:  # as above
    return rng.random((rows, slots)) < 0.6


MASKS: dict[AttentionKind, Callable[..., np.ndarray]] = {
    AttentionKind.TREE: _in_order,
    AttentionKind.BLOCK: _both_ways,
}
ROUNDS = ((9, 9, 0, True), (5, 8, 0, False), (1, 1, 3, False), (2, 4, 4, True), (1, 2, 0, True), (7, 7, 0, True))
"""Number of valid rows, of rows, of mask slots before the round's own, and whether all of these become text."""


def _logits(path: Path, attention: AttentionKind, extra: int, batch: int) -> Iterator[np.ndarray]:
    """Logits of the valid rows of rounds under random masks, `[batch, rows, vocab]`."""
    run, inputs, rng = load(path), {value.name: value for value in ir.load(path).graph.inputs}, np.random.default_rng(2)
    caches = {}
    for name, value in inputs.items():
        if name and name.startswith("past"):
            assert value.shape is not None
            sizes = [size if isinstance(size, int) else CAPACITY for size in value.shape[1:]]
            caches[name] = np.zeros([batch, *sizes], np.float32)
    text = np.zeros(batch, np.int64)
    is_filled = np.zeros(CAPACITY, bool)  # what padding leaves in a slot is no row's to read
    for number, (count, width, before, kept) in enumerate(ROUNDS):
        before = min(before, extra)
        depth = rng.integers(0, count, (batch, width))
        start = int(text[0]) + before
        is_filled[start : start + width] = np.arange(width) < count
        shown = is_filled[int(text[0]) :][: width + extra]
        given = {
            "input_ids": np.array([prompt(width, 10 * number + row) for row in range(batch)]),
            "position_ids": text[:, None] + depth,
            "tree_mask": shown & [MASKS[attention](rng, width, width + extra, before) for _ in range(batch)],
            "mask_start": text,
            "write_index": text + before,
            "row_count": np.full(batch, count),
            "logits_rows": np.tile(np.arange(width), (batch, 1)),
            "window_offset": np.zeros(batch, np.int64),
        }
        out = run(**caches, **{name: array for name, array in given.items() if name in inputs})
        caches = {name: out[name.replace("past_key_values", "present")] for name in caches}
        yield out["logits"][:, :count]
        text = text + before + count if kept else text


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("attention", "extra"),
    [(AttentionKind.TREE, 0), (AttentionKind.TREE, 6), (AttentionKind.BLOCK, 0), (AttentionKind.BLOCK, 6)],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_see_what_any_mask_of_their_kind_lets_them_see(
    family: str, attention: AttentionKind, extra: int, batch: int, tmp_path: Path
) -> None:
    save(traced(family).model, tmp_path, "canonical")
    model, _ = prepared_model(family, tmp_path, batch=batch, role=_role(family, attention, extra))
    save(model, tmp_path, "prepared")
    for expected, found in zip(
        _logits(tmp_path / "canonical.onnx", attention, extra, batch),
        _logits(tmp_path / "prepared.onnx", attention, extra, batch),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_quantised_trees_are_those_of_the_standard_attention(precision: str, tmp_path: Path) -> None:
    one, other = (_tree_session("llama", tmp_path, precision, batch) for batch in (3, 1))
    for session in (one, other):
        session.prefill(prompt(24))
    nodes = prompt(8, 1)
    expected = one.forward(nodes, TREE)
    for found in (other.forward(nodes, TREE), _by_depth(other, nodes)):
        assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_node_has_the_same_logits_in_a_round_of_any_width(
    family: str, precision: str, batch: int, tmp_path: Path
) -> None:
    """Bit-identical: in text read in chunks of any size, and in a tree run at once, in parts or depth by depth."""
    session, ids, nodes = _tree_session(family, tmp_path, precision, batch), prompt(24), prompt(8, 1)

    def text(width: int) -> np.ndarray:
        session.length = 0
        return session.prefill(ids, width)

    one_by_one = text(1)
    for width in (2, 3, 8, 24):
        np.testing.assert_array_equal(text(width), one_by_one, err_msg=str(width))
    at_once = session.forward(nodes, TREE)
    np.testing.assert_array_equal(_by_depth(session, nodes), at_once)
    for count in (1, 2, 5):
        np.testing.assert_array_equal(session.forward(nodes[:count], TREE), at_once[:count], err_msg=str(count))
