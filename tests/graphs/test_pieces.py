"""Every piece of graph against its numpy meaning."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ptgc.graphs import reference
from ptgc.graphs.attention_mask import AttentionMask, CacheSlots, RoundPorts
from ptgc.graphs.kv_cache import compact_rows
from ptgc.graphs.selection import argmax, top_k
from ptgc.spec.tree import TreeSpec
from tests.graphs.run_piece import run_piece

RNG = np.random.default_rng(0)
TREE = TreeSpec((-1, 0, 0, 1, 1, 2, 3))


def _typed(values: list[ir.Value], *dtypes: ir.DataType) -> list[ir.Value]:
    for value, dtype in zip(values, dtypes, strict=True):
        value.dtype = dtype
    return values


def _round(batch: int, rows: int) -> tuple[np.ndarray, ...]:
    tree = np.array(TREE.ancestors())[:rows, :rows]
    tree_mask = np.repeat(tree[None], batch, axis=0)
    write_index = np.array([0, 9, 4][:batch], dtype=np.int64)
    row_count = np.array([rows, max(1, rows - 2), 0][:batch], dtype=np.int64)
    depth = np.array(TREE.depths)[:rows]
    positions = (write_index[:, None] + depth[None]).astype(np.int64)
    return tree_mask, write_index, row_count, positions


@pytest.mark.parametrize("rows", [1, 4, 7])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize("offset", [0, 5])
def test_mask_equals_its_numpy_meaning(batch: int, rows: int, window: int | None, offset: int) -> None:
    tree_mask, write_index, row_count, positions = _round(batch, rows)
    first_position = np.full(batch, offset, dtype=np.int64)
    positions = positions + offset
    cache = np.zeros((batch, 1, 24, 2), np.float32)

    def build(piece, tree, write, first, count, position, kv):  # type: ignore[no-untyped-def]
        mask = AttentionMask(piece, RoundPorts(tree, count, position))
        slots = CacheSlots(kv, write, first if offset else None)
        return _typed([mask.full(slots) if window is None else mask.window(slots, window)], ir.DataType.BOOL)

    (found,) = run_piece(build, tree_mask, write_index, first_position, row_count, positions, cache)
    expected = reference.full_mask(tree_mask, write_index, row_count, 24)
    if window is not None:
        expected = reference.window_mask(expected, write_index, positions - offset, window)
    np.testing.assert_array_equal(found, expected)


def test_every_row_sees_itself_and_no_row_sees_padding() -> None:
    tree_mask, write_index, row_count, _ = _round(3, 7)
    mask = reference.full_mask(np.ones_like(tree_mask), write_index, row_count, 24)
    for b in range(3):
        for t in range(7):
            assert mask[b, 0, t, write_index[b] + t]
            others = [u for u in range(int(row_count[b]), 7) if u != t]
            assert not mask[b, 0, t, write_index[b] + np.array(others, dtype=int)].any()


def test_argmax_and_top_k_equal_their_numpy_meaning() -> None:
    logits = RNG.normal(size=(2, 3, 50)).astype(np.float32)
    logits[0, 0, [4, 9]] = 10.0  # a tie: the lower index wins

    def build(piece, values):  # type: ignore[no-untyped-def]
        return _typed(
            [argmax(piece, values), *top_k(piece, values, 8)],
            ir.DataType.INT64,
            ir.DataType.FLOAT,
            ir.DataType.INT64,
        )

    ids, top_values, top_ids = run_piece(build, logits)
    np.testing.assert_array_equal(ids, reference.argmax(logits))
    expected_values, expected_ids = reference.top_k(logits, 8)
    np.testing.assert_array_equal(top_values, expected_values)
    np.testing.assert_array_equal(top_ids, expected_ids)


def test_kept_rows_move_together_and_nothing_else_changes() -> None:
    cache = RNG.normal(size=(2, 3, 16, 4)).astype(np.float32)
    keep_rows = np.array([[5, 7, 8], [2, 3, 6]], dtype=np.int64)
    write_index = np.array([5, 1], dtype=np.int64)

    def build(piece, kv, rows, write):  # type: ignore[no-untyped-def]
        return _typed([compact_rows(piece, kv, rows, write)], ir.DataType.FLOAT)

    (found,) = run_piece(build, cache, keep_rows, write_index)
    np.testing.assert_array_equal(found, reference.compact_rows(cache, keep_rows, write_index))
