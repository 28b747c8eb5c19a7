"""Every piece of graph against its numpy meaning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptgc.graphs import reference
from ptgc.graphs.attention_mask import AttentionMask, CacheSlots, RoundPorts, capacity
from ptgc.graphs.selection import argmax, drafts_of_heads, top_ids
from ptgc.spec.tree import TreeSpec
from tests.graphs.run_piece import run_piece

RNG = np.random.default_rng(0)
CAPACITY = 24


def _typed(values: list[ir.Value], *dtypes: ir.DataType) -> list[ir.Value]:
    for value, dtype in zip(values, dtypes, strict=True):
        value.dtype = dtype
    return values


@dataclass(frozen=True)
class Rounds:
    """Port values for a round of each sequence."""

    tree_mask: np.ndarray
    mask_start: np.ndarray
    write_index: np.ndarray
    row_count: np.ndarray
    positions: np.ndarray

    @staticmethod
    def random(rng: np.random.Generator, batch: int, rows: int, extra: int) -> Rounds:
        """Random masks over random windows that hold the round."""
        write_index = rng.integers(0, CAPACITY - rows, batch)
        mask_start = np.maximum(write_index - rng.integers(0, extra + 1, batch), 0)
        return Rounds(
            tree_mask=rng.random((batch, rows, rows + extra)) < 0.5,
            mask_start=mask_start,
            write_index=write_index,
            row_count=rng.integers(0, rows + 1, batch),
            positions=mask_start[:, None] + rng.integers(0, rows, (batch, rows)),
        )


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 1 << 32),
    batch=st.integers(1, 3),
    rows=st.integers(1, 8),
    extra=st.integers(0, 9),
    window=st.sampled_from([None, 1, 3, 100]),
    offset=st.sampled_from([0, 5]),
)
def test_mask_equals_its_numpy_meaning(
    seed: int, batch: int, rows: int, extra: int, window: int | None, offset: int
) -> None:
    found, expected = _masks(Rounds.random(np.random.default_rng(seed), batch, rows, extra), window, offset)
    np.testing.assert_array_equal(found, expected)


def _masks(given: Rounds, window: int | None, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """The graph's mask and numpy's, for a cache whose slot 0 is at position `offset`."""
    at = np.array([offset])

    def build(piece, tree, first, write, count, position, slide, kv):  # type: ignore[no-untyped-def]
        mask = AttentionMask(piece, RoundPorts(tree, first, write, count, position))
        slots = CacheSlots(capacity(piece, kv), slide if offset else None)
        return _typed([mask.full(slots) if window is None else mask.window(slots, window)], ir.DataType.BOOL)

    ports = (given.tree_mask, given.mask_start + at, given.write_index + at, given.row_count, given.positions + at)
    cache = np.zeros((len(given.row_count), 1, CAPACITY, 2), np.float32)
    (found,) = run_piece(build, *ports, np.full(len(given.row_count), offset), cache)
    ports = (given.tree_mask, given.mask_start, given.write_index, given.row_count)
    expected = reference.full_mask(*ports, CAPACITY)
    if window is not None:
        expected = reference.window_mask(expected, given.mask_start, given.write_index, given.positions, window)
    return found, expected


def test_a_round_of_one_depth_sees_its_ancestors_of_earlier_rounds() -> None:
    """Nodes 3 and 4 of a tree after two tokens, in a cache of layers that see the last two positions."""
    tree = TreeSpec((-1, 0, 0, 1, 2))
    masks = np.array([tree.ancestors()], dtype=np.bool_)[:, 3:]
    depths = np.array([tree.depths])[:, 3:]
    given = Rounds(masks, np.array([2]), np.array([5]), np.array([2]), 2 + depths)
    # Slots of the two tokens, of nodes 0 to 4, and one more.
    wanted = {None: ["11110100", "11101010"], 2: ["00110100", "00101010"]}
    for window, rows in wanted.items():
        for mask in _masks(given, window, 0):
            assert ["".join(map(str, row[:8].astype(int))) for row in mask[0, 0]] == rows


def test_every_row_sees_itself_and_no_row_sees_padding() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        one = Rounds.random(rng, 3, 7, 4)
        every = np.ones_like(one.tree_mask)
        mask = reference.full_mask(every, one.mask_start, one.write_index, one.row_count, CAPACITY)
        for b, (start, valid) in enumerate(zip(one.write_index, one.row_count, strict=True)):
            for t in range(7):
                assert mask[b, 0, t, start + t]
                others = [start + u for u in range(valid, 7) if u != t]
                assert not mask[b, 0, t, others].any()
                if t >= valid:
                    assert mask[b, 0, t].sum() == one.mask_start[b] + 1


def test_argmax_equals_its_numpy_meaning() -> None:
    logits = RNG.normal(size=(2, 3, 50)).astype(np.float32)
    logits[0, 0, [4, 9]] = 10.0  # a tie: the lower index wins

    def build(piece, values):  # type: ignore[no-untyped-def]
        return _typed([argmax(piece, values)], ir.DataType.INT64)

    (ids,) = run_piece(build, logits)
    np.testing.assert_array_equal(ids, reference.argmax(logits))


@pytest.mark.parametrize("drafted_ids", [None, [7, 3, 90, 11, 12, 60]])
def test_drafts_of_heads_equal_their_numpy_meaning(drafted_ids: list[int] | None) -> None:
    """Logits have few values, so that there are ties: the first of equals is the likelier one."""
    tree = TreeSpec((-1, 0, 0, 0, 1, 1, 2, 5))
    logits = RNG.integers(0, 3, (4, 3, 6)).astype(np.float32)

    def build(piece, values):  # type: ignore[no-untyped-def]
        return _typed([drafts_of_heads(piece, values, tree, drafted_ids)], ir.DataType.INT64)

    (found,) = run_piece(build, logits)
    np.testing.assert_array_equal(found, reference.drafts_of_heads(logits, tree, drafted_ids))


def test_top_ids_equal_their_numpy_meaning() -> None:
    logits = RNG.normal(size=(2, 3, 50)).astype(np.float32)
    logits[0, 0, [4, 9]] = 10.0  # a tie: the lower index comes first

    def build(piece, values):  # type: ignore[no-untyped-def]
        return _typed([top_ids(piece, values, 4)], ir.DataType.INT64)

    (ids,) = run_piece(build, logits)
    np.testing.assert_array_equal(ids, reference.top_ids(logits, 4))
    assert ids[0, 0, :2].tolist() == [4, 9]
